"""The criteria of one run: which stages each needs, and the facts that stand in the verdict.

The arithmetic is in ``harness.gate``; here it is only fed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from harness.data import compare_distributions, find_leaks
from harness.gate import (
    CriterionResult,
    StoreInspection,
    inspect_store,
    judge_accuracy,
    judge_baseline,
    judge_embeddings,
    judge_representative,
    judge_split_integrity,
)
from harness.pipeline.facts import describe_run
from harness.pipeline.stages import SIDES, Pipeline, Side
from harness.pipeline.stopwatch import Stopwatch

__all__ = ["Judge"]

# Records that are embedded again, alone, to see that the store holds what the embedder computes.
RECOMPUTED = 8


class Judge:
    """Computes each criterion from the stages of a pipeline.

    Parameters
    ----------
    pipeline : Pipeline
        The stages; they are run when a criterion first needs them.
    requires_taxonomy : bool
        Whether lineages and genomes must be known, as for a deployment.
    """

    def __init__(self, pipeline: Pipeline, *, requires_taxonomy: bool = True) -> None:
        self.pipeline = pipeline
        self._requires_taxonomy = requires_taxonomy
        self._stopwatch: Stopwatch | None = None

    def split_integrity(self) -> CriterionResult:
        """Judge that test set and training part share nothing."""
        records, split = self.pipeline.samples.records(), self.pipeline.samples.split()
        with self.pipeline.cache.log.stage("look for leaks"):
            leaks = find_leaks(records, split)
        return judge_split_integrity(leaks, identity=self.pipeline.samples.identity())

    def representative_split(self) -> CriterionResult:
        """Judge that the test set is as an honest draw would leave it."""
        pipeline, data = self.pipeline, self.pipeline.config.data
        records = pipeline.samples.records()
        is_test = pipeline.samples.split().masks(records["id"]).test
        with pipeline.cache.log.stage("compare distributions"):
            comparison = compare_distributions(
                records,
                is_test,
                sampling_unit=data.sampling_unit,
                test_fraction=data.test_fraction,
                seed=pipeline.config.seed,
            )
        return judge_representative(comparison, requires_lineage=self._requires_taxonomy)

    def embedding_integrity(self) -> CriterionResult:
        """Judge that every record has one sound embedding of each kind."""
        pipeline = self.pipeline
        inspections = [self._inspect_proteins(side) for side in SIDES]
        nucleotide = pipeline.nucleotide_embedder()
        inspections.append(
            inspect_store(
                "nucleotide",
                pipeline.nucleotide_embeddings(),
                pipeline.samples.records()["id"],
                expected_dim=nucleotide.dim,
                sha256=pipeline.cache.artifacts["embeddings nucleotide"].sha256,
                embedder=nucleotide,
                sample=self._sample("nucleotides"),
            )
        )
        return judge_embeddings(inspections)

    def baseline_sanity(self) -> CriterionResult:
        """Judge that the baseline beats the constant answer by more than the allowed drop."""
        table = self.pipeline.predictions()
        return judge_baseline(
            table["label"], _predicted(table, "baseline"), groups=self._groups(table)
        )

    def accuracy_drop(self) -> CriterionResult:
        """Judge the candidate's accuracy against the baseline's, on the same test rows."""
        table = self.pipeline.predictions()
        return judge_accuracy(
            table["label"],
            _predicted(table, "baseline"),
            _predicted(table, "candidate"),
            groups=self._groups(table),
            limit_points=self.pipeline.config.thresholds.max_accuracy_drop_points,
            requires_groups=self._requires_taxonomy,
        )

    @contextmanager
    def stopwatch(self) -> Iterator[Stopwatch]:
        """Yield the stopwatch of both sides; all that it times is one stage."""
        pipeline, timing = self.pipeline, self.pipeline.config.timing
        sample = _first(pipeline.samples.part("test"), timing.sequences)
        self._stopwatch = Stopwatch(
            {side: pipeline.embedder(side) for side in SIDES},
            sample["protein"].tolist(),
            {side: pipeline.embeddings(side).rows(sample["id"]) for side in SIDES},
            limit_ratio=pipeline.config.thresholds.max_time_ratio,
            runs=timing.runs,
            attempts=timing.attempts,
        )
        with pipeline.cache.log.stage("time the embedding"):
            yield self._stopwatch

    def facts(self) -> dict[str, Any]:
        """Return what this run has found out so far, as the verdict holds it; runs no stage."""
        timing = self._stopwatch.result if self._stopwatch else None
        return describe_run(self.pipeline, timing=timing)

    def _inspect_proteins(self, side: Side) -> StoreInspection:
        pipeline = self.pipeline
        embedder = pipeline.embedder(side)
        return inspect_store(
            side,
            pipeline.embeddings(side),
            pipeline.samples.records()["id"],
            expected_dim=embedder.dim,
            sha256=pipeline.cache.artifacts[f"embeddings {side}"].sha256,
            embedder=embedder,
            sample=self._sample("protein"),
            dtype=getattr(pipeline.config, side).dtype,
        )

    def _sample(self, column: str) -> pd.Series[str]:
        test = _first(self.pipeline.samples.part("test"), RECOMPUTED)
        return test.set_index("id")[column]

    def _groups(self, table: pd.DataFrame) -> pd.Series[str] | None:
        return table["genome"] if self.pipeline.config.data.taxonomy is not None else None


def _predicted(table: pd.DataFrame, side: Side) -> pd.Series[int]:
    return (table[f"{side}_score"] > 0.5).astype(np.int8)


def _first(table: pd.DataFrame, n_rows: int) -> pd.DataFrame:
    """Return rows spread evenly over the table, so that all kinds of records are among them."""
    positions = np.linspace(0, len(table) - 1, min(n_rows, len(table))).round().astype(int)
    return table.iloc[positions]
