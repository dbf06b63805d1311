"""The criteria of one run: which stages each needs, and the facts that stand in the verdict.

The arithmetic is in ``harness.criteria``; here it is only fed.

What a run knows besides its predictions that explains how accurate its heads are.

Where they come from, how they learned, which lineages they lost, which rows are of no known genome.
It changes no state.

Which stores of a run are inspected, and which records are embedded again to compare.

What is wrong with a store is found and judged in ``harness.criteria.embedding_integrity``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from harness.criteria import (
    CriterionResult,
    State,
    StoreInspection,
    break_down,
    evaluate,
    inspect_store,
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
from harness.criteria.advice import LearningCurve, learning_steps, lineage_steps, read_curve
from harness.criteria.neighbours import observe_device
from harness.data import compare_distributions, find_leaks
from harness.embedding import SomeColumns
from harness.embedding.embedder import Rows
from harness.embedding.virnucpro import DNABERT_DIM
from harness.errors import MissingInput
from harness.pipeline.facts import describe_run
from harness.pipeline.stages import Pipeline, name_some, warn_of_brought
from harness.pipeline.stopwatch import Stopwatch
from harness.pipeline.vectors import SIDES, Side

__all__ = [
    "Judge",
    "explain_baseline",
    "explain_drop",
    "inspect_embeddings",
    "spread_rows",
]


def explain_baseline(result: CriterionResult, pipeline: Pipeline) -> CriterionResult:
    """Add where the baseline's head comes from and, unless it passed, how it learned."""
    notes = (*warn_of_brought(pipeline.config, sides=("baseline",)), *_warn_of_unknown(pipeline))
    steps = result.next_steps
    if result.state is State.INCONCLUSIVE:
        steps += _name_unknown(pipeline)
    if result.state is not State.PASS:
        steps += learning_steps(_curves(pipeline).get("baseline"), name="baseline")
    return replace(result, warnings=(*result.warnings, *notes), next_steps=steps)


def explain_drop(
    result: CriterionResult,
    pipeline: Pipeline,
    *,
    lineages: Sequence[Mapping[str, Any]] = (),
) -> CriterionResult:
    """Add where both heads come from and, where the candidate lost, in which way it did.

    Parameters
    ----------
    result : CriterionResult
        The judged drop.
    pipeline : Pipeline
        Of the run; none of its stages is run.
    lineages : sequence of mappings
        The drop by lineage, as ``break_down`` returns it.
    """
    notes = (*warn_of_brought(pipeline.config), *_warn_of_unknown(pipeline))
    result = replace(result, warnings=(*result.warnings, *notes))
    if result.state is State.PASS:
        return result
    if result.state is State.INCONCLUSIVE:
        result = replace(result, next_steps=(*result.next_steps, *_name_unknown(pipeline)))
    if not result.value or result.value < 0:
        return result
    curves = _curves(pipeline)
    learned = learning_steps(curves.get("candidate"), curves.get("baseline"))
    return replace(result, next_steps=(*result.next_steps, *lineage_steps(lineages), *learned))


def _warn_of_unknown(pipeline: Pipeline) -> tuple[str, ...]:
    n_unknown, n_rows = len(pipeline.samples.without_taxonomy()), len(pipeline.samples.part("test"))
    text = (
        f"{n_unknown:,} of {n_rows:,} test rows are of accessions that the taxonomy does not "
        "know; they count as one genome"
    )
    return (text,) if n_unknown else ()


def _name_unknown(pipeline: Pipeline) -> tuple[str, ...]:
    names = pipeline.samples.without_taxonomy()["accession"].drop_duplicates().tolist()
    return (f"Add to the taxonomy: {name_some(names)}",) if names else ()


def _curves(pipeline: Pipeline) -> dict[Side, LearningCurve]:
    return {side: read_curve(facts) for side, facts in pipeline.trainings().items()}


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
        return vectors.nucleotides().store
    has_model = vectors.has_model("baseline")
    width = baseline.dim - vectors.embedder("baseline").dim if has_model else DNABERT_DIM
    return SomeColumns(baseline, slice(width))


def _inspect_proteins(pipeline: Pipeline, side: Side) -> StoreInspection:
    vectors = pipeline.vectors
    embedder = vectors.embedder(side) if vectors.has_model(side) else None
    proteins = vectors.proteins(side)
    return inspect_store(
        side,
        proteins.store,
        pipeline.samples.records()["id"],
        expected_dim=embedder.dim if embedder else proteins.store.dim,
        sha256=proteins.sha256,
        embedder=embedder,
        sample=_sample(pipeline, "protein"),
        dtype=getattr(pipeline.config, side).dtype,
    )


def _inspect_nucleotides(pipeline: Pipeline) -> StoreInspection:
    embedder = pipeline.vectors.nucleotide_embedder()
    nucleotides = pipeline.vectors.nucleotides()
    return inspect_store(
        "nucleotide",
        nucleotides.store,
        pipeline.samples.records()["id"],
        expected_dim=embedder.dim if embedder else nucleotides.store.dim,
        sha256=nucleotides.sha256,
        embedder=embedder,
        sample=_sample(pipeline, "nucleotides"),
        dtype=embedder.dtype if embedder else "float32",
    )


def _sample(pipeline: Pipeline, column: str) -> pd.Series[str]:
    return spread_rows(pipeline.samples.part("test"), RECOMPUTED).set_index("id")[column]


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
            {
                "baseline": pipeline.vectors.embedder("baseline", candidate.dtype),
                "candidate": candidate,
            },
            sample["protein"].tolist(),
            {side: pipeline.vectors.proteins(side).store.rows(sample["id"]) for side in SIDES},
            limit_ratio=pipeline.config.thresholds.max_time_ratio,
            runs=timing.runs,
            attempts=timing.attempts,
            dtype=candidate.dtype,
            deployed=deployed,
            observe=partial(observe_device, pipeline.config.device),
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
