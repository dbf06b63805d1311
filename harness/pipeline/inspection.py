"""Which stores of a run are inspected, and which records are embedded again to compare.

What is wrong with a store is found and judged in ``harness.gate.embedding_integrity``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from harness.embedding import SomeColumns
from harness.embedding.joining import Rows
from harness.embedding.virnucpro.files import DNABERT_DIM
from harness.errors import MissingInput
from harness.gate import StoreInspection, inspect_store
from harness.pipeline.stages import Pipeline
from harness.pipeline.vectors import SIDES, Side

__all__ = ["inspect_embeddings", "spread_rows"]

# Records that are embedded again, alone, to see that the store holds what the embedder computes.
RECOMPUTED = 8


def inspect_embeddings(pipeline: Pipeline) -> list[StoreInspection]:
    """Inspect each store that a head of the run sees.

    Raises
    ------
    MissingInput
        If a side brings predictions alone: then there is nothing to inspect.
    """
    inspections = [inspection for side in SIDES for inspection in _inspect(pipeline, side)]
    if any(pipeline.vectors.merged(side) is None for side in SIDES):
        inspections.append(_inspect_nucleotides(pipeline))
    return inspections


def spread_rows(table: pd.DataFrame, n_rows: int) -> pd.DataFrame:
    """Return rows spread evenly over the table, so that all kinds of records are among them."""
    positions = np.linspace(0, len(table) - 1, min(n_rows, len(table))).round().astype(int)
    return table.iloc[positions]


def _inspect(pipeline: Pipeline, side: Side) -> Iterator[StoreInspection]:
    vectors = pipeline.vectors
    merged = vectors.merged(side)
    has_proteins = vectors.has_model(side) or vectors.brought(side) is not None
    if merged is None and not has_proteins:
        raise MissingInput(
            f"[{side}] brings no embeddings to inspect",
            remedy=f"Set `model`, `embeddings` or `features` in [{side}]",
        )
    if merged is not None:
        yield inspect_store(
            f"{side} features",
            merged,
            pipeline.samples.records()["id"],
            expected_dim=merged.dim,
            sha256=merged.sha256,
            nucleotides=_nucleotides(pipeline),
        )
    if has_proteins:
        yield _inspect_proteins(pipeline, side)


def _nucleotides(pipeline: Pipeline) -> Rows:
    """Return the nucleotide embeddings of the run: the baseline's where both bring features."""
    vectors, baseline = pipeline.vectors, pipeline.vectors.merged("baseline")
    if baseline is None or vectors.merged("candidate") is None:
        return vectors.nucleotide_embeddings()
    has_model = vectors.has_model("baseline")
    width = baseline.dim - vectors.embedder("baseline").dim if has_model else DNABERT_DIM
    return SomeColumns(baseline, slice(width))


def _inspect_proteins(pipeline: Pipeline, side: Side) -> StoreInspection:
    vectors = pipeline.vectors
    embedder = vectors.embedder(side) if vectors.has_model(side) else None
    store = vectors.proteins(side)
    return inspect_store(
        side,
        store,
        pipeline.samples.records()["id"],
        expected_dim=embedder.dim if embedder else store.dim,
        sha256=vectors.protein_digest(side),
        embedder=embedder,
        sample=_sample(pipeline, "protein"),
        dtype=getattr(pipeline.config, side).dtype,
    )


def _inspect_nucleotides(pipeline: Pipeline) -> StoreInspection:
    embedder = pipeline.vectors.nucleotide_embedder()
    store = pipeline.vectors.nucleotide_embeddings()
    return inspect_store(
        "nucleotide",
        store,
        pipeline.samples.records()["id"],
        expected_dim=embedder.dim if embedder else store.dim,
        sha256=pipeline.cache.artifacts["embeddings nucleotide"].sha256,
        embedder=embedder,
        sample=_sample(pipeline, "nucleotides"),
    )


def _sample(pipeline: Pipeline, column: str) -> pd.Series[str]:
    return spread_rows(pipeline.samples.part("test"), RECOMPUTED).set_index("id")[column]
