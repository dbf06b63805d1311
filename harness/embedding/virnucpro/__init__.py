"""Embeddings in the files of VirNucPro's tools: read as stores, and written."""
