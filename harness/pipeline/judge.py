"""The criteria of one run: which stages each needs, and the facts that stand in the verdict.

The arithmetic is in ``harness.gate``; here it is only fed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from harness.data import compare_distributions, find_leaks
from harness.gate import (
    CriterionResult,
    break_down,
    evaluate,
    judge_accuracy,
    judge_accuracy_unpaired,
    judge_baseline,
    judge_baseline_unpaired,
    judge_embeddings,
    judge_representative,
    judge_split_integrity,
    large_moves,
    predict_labels,
)
from harness.gate.speed.neighbours import observe_device
from harness.pipeline.explanations import explain_baseline, explain_drop
from harness.pipeline.facts import describe_run
from harness.pipeline.inspection import inspect_embeddings, spread_rows
from harness.pipeline.stages import Pipeline
from harness.pipeline.stopwatch import Stopwatch
from harness.pipeline.vectors import SIDES

__all__ = ["Judge"]


class Judge:
    """Computes each criterion from the stages of a pipeline.

    Parameters
    ----------
    pipeline : Pipeline
        The stages; they are run when a criterion first needs them.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._stopwatch: Stopwatch | None = None

    def split_integrity(self) -> CriterionResult:
        """Judge that test set and training part share nothing."""
        samples = self.pipeline.samples
        records, split = samples.records(), samples.split()
        with self.pipeline.cache.log.stage("look for leaks"):
            leaks = find_leaks(records, split)
        return judge_split_integrity(leaks, identity=samples.identity())

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
        return judge_representative(comparison, requires_lineage=True)

    def embedding_integrity(self) -> CriterionResult:
        """Judge that every record has one sound embedding of each kind.

        Raises
        ------
        MissingInput
            If a side brings predictions alone: then there is nothing to inspect.
        """
        return judge_embeddings(inspect_embeddings(self.pipeline))

    def baseline_sanity(self) -> CriterionResult:
        """Judge that the baseline beats the constant answer by more than the allowed drop."""
        if reported := self.pipeline.reported_metrics():
            rows = self._candidate_rows()
            result = judge_baseline_unpaired(
                reported.accuracy,
                reported.n_rows,
                rows["label"],
                predict_labels(rows["score"]),
                groups=self.pipeline.samples.genomes(rows["id"]),
            )
            return explain_baseline(result, self.pipeline)
        table = self.pipeline.predictions()
        result = judge_baseline(
            table["label"],
            predict_labels(table["baseline_score"]),
            groups=self.pipeline.samples.genomes(table["id"]),
        )
        return explain_baseline(result, self.pipeline)

    def accuracy_drop(self) -> CriterionResult:
        """Judge the candidate's accuracy against the baseline's, on the same test rows.

        Where only the baseline's metrics are known, the comparison is unpaired, and says so.
        """
        limit = self.pipeline.config.thresholds.max_accuracy_drop_points
        if reported := self.pipeline.reported_metrics():
            rows = self._candidate_rows()
            result = judge_accuracy_unpaired(
                reported.accuracy,
                reported.n_rows,
                rows["label"],
                predict_labels(rows["score"]),
                groups=self.pipeline.samples.genomes(rows["id"]),
                limit_points=limit,
                requires_groups=True,
            )
            return explain_drop(result, self.pipeline)
        table = self.pipeline.predictions()
        result = judge_accuracy(
            table["label"],
            predict_labels(table["baseline_score"]),
            predict_labels(table["candidate_score"]),
            groups=self.pipeline.samples.genomes(table["id"]),
            limit_points=limit,
            requires_groups=True,
        )
        before, after = (evaluate(table["label"], table[f"{side}_score"]).values for side in SIDES)
        moves = large_moves(before, after)
        return explain_drop(
            replace(result, warnings=(*result.warnings, *moves)),
            self.pipeline,
            lineages=break_down(table.dropna(subset="lineage"), "lineage"),
        )

    @contextmanager
    def stopwatch(self) -> Iterator[Stopwatch]:
        """Yield the stopwatch of both sides; all that it times is one stage.

        The baseline is timed in the candidate's dtype, so that the claim is about the model; in
        its own dtype it is timed beside that.

        Raises
        ------
        MissingInput
            If a side names no model, or the device is not there.
        """
        pipeline, timing = self.pipeline, self.pipeline.config.timing
        sample = spread_rows(pipeline.samples.part("test"), timing.sequences)
        deployed, candidate = (pipeline.vectors.embedder(side) for side in SIDES)
        self._stopwatch = Stopwatch(
            {"baseline": deployed.in_dtype(candidate.dtype), "candidate": candidate},
            sample["protein"].tolist(),
            {side: pipeline.vectors.proteins(side).rows(sample["id"]) for side in SIDES},
            limit_ratio=pipeline.config.thresholds.max_time_ratio,
            runs=timing.runs,
            attempts=timing.attempts,
            dtype=candidate.dtype,
            deployed=deployed,
            observe=partial(observe_device, candidate.device),
        )
        with pipeline.cache.log.stage("time the embedding"):
            yield self._stopwatch

    def facts(self) -> dict[str, Any]:
        """Return what this run has found out so far, as the verdict holds it; runs no stage."""
        timing = self._stopwatch.result if self._stopwatch else None
        return describe_run(self.pipeline, timing=timing)

    def _candidate_rows(self) -> pd.DataFrame:
        test = self.pipeline.samples.part("test")[["id", "label"]]
        return test.merge(self.pipeline.scores("candidate"), on="id", validate="one_to_one")
