"""Is the test set a fair sample of the data? Every check, class by class, and its null."""
