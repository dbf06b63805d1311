"""Embedders of proteins and nucleotides, and where their vectors are kept.

``load_embedder(model).embed(sequences)`` returns float32 vectors, one row per sequence. Torch and
transformers are imported when a model is loaded, not before.
"""

from harness.embedding.embedder import Embedder
from harness.embedding.esm.alphabet import tokenise
from harness.embedding.esm.checkpoint import EsmCheckpoint, find_checkpoint, open_checkpoint
from harness.embedding.esm.embedder import EsmEmbedder, load_embedder
from harness.embedding.extraction import write_store
from harness.embedding.nucleotide import KmerProfile
from harness.embedding.store import EmbeddingStore
from harness.embedding.virnucpro import MergedFeatures, SomeColumns

__all__ = [
    "Embedder",
    "EmbeddingStore",
    "EsmCheckpoint",
    "EsmEmbedder",
    "KmerProfile",
    "MergedFeatures",
    "SomeColumns",
    "find_checkpoint",
    "load_embedder",
    "open_checkpoint",
    "tokenise",
    "write_store",
]
