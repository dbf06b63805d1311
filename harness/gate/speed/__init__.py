"""The timing criterion, repeated attempts, and what else was on the GPU."""
