"""Embeddings on disk: sharded safetensors with a Parquet index and a manifest.

``write_store`` computes and writes, goes on after an interruption, and shares the work among
processes; ``EmbeddingStore`` reads slices of what it wrote. Both know the files from ``layout``.
"""

from harness.embedding.store.layout import LAYOUT
from harness.embedding.store.reading import EmbeddingStore
from harness.embedding.store.writing import write_store

__all__ = ["LAYOUT", "EmbeddingStore", "write_store"]
