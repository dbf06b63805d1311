"""Embedders of proteins and nucleotides, and where their vectors are kept.

``load_embedder(model).embed(sequences)`` returns float32 vectors, one row per sequence. What embeds
is found by its kind (``embedder``), and transformers is imported when such a model is loaded.
"""

from harness.embedding.embedder import Embedder, Facts, load_embedder
from harness.embedding.extraction import write_store
from harness.embedding.kmer import KmerProfile
from harness.embedding.store import EmbeddingStore
from harness.embedding.virnucpro import MergedFeatures, SomeColumns

__all__ = [
    "Embedder",
    "EmbeddingStore",
    "Facts",
    "KmerProfile",
    "MergedFeatures",
    "SomeColumns",
    "load_embedder",
    "write_store",
]
