"""ESM2 and FastESM2: alphabet, checkpoints, and the embedder."""
