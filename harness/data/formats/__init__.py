"""Files of sequences, lineages and features, as their tools write them, read into tables."""
