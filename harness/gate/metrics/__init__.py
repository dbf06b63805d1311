"""The metrics of both heads, their intervals, and where they differ."""
