"""Embedders of nucleotides: DNABERT-S from its checkpoint, and k-mer profiles."""
