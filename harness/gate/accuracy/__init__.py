"""The accuracy criterion: the drop, its clustered upper bound, and what would settle it."""
