"""What the criteria ask of one run, answered from its stages; and the facts in its verdict.

How a criterion judges what it is told stands in ``harness.criteria``; here it is only fed. Which
stores of a run are inspected, and which records are embedded again to compare, is decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from harness.config import GateConfig
from harness.criteria import CriterionResult, find_criterion
from harness.criteria.embedding_integrity import StoreInspection, inspect_store
from harness.criteria.neighbours import observe_device
from harness.data import (
    LeakReport,
    Representativeness,
    Split,
    compare_distributions,
    find_leaks,
)
from harness.data.leakage import IdentityBins
from harness.errors import ArtifactError, MissingInput
from harness.pipeline.facts import describe_run
from harness.pipeline.stages import Pipeline, name_some, warn_of_brought
from harness.pipeline.stopwatch import Stopwatch
from harness.pipeline.vectors import SIDES, Side

__all__ = ["Judge", "inspect_embeddings"]


# Records that are embedded again, alone, to see that the store holds what the embedder computes,
# and by its reference, to see that this is what the weights stand for.
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
            nucleotides=vectors.nucleotide_columns(),
        )
    if has_proteins:
        yield _inspect_proteins(pipeline, side)


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
    )


def _sample(pipeline: Pipeline, column: str) -> pd.Series[str]:
    """Return different test sequences, their lengths spread: the shortest and longest included."""
    different = pipeline.samples.part("test").drop_duplicates(column)
    by_length = different.sort_values(column, key=lambda texts: texts.str.len(), kind="stable")
    return spread_rows(by_length, RECOMPUTED).set_index("id")[column]


class Judge:
    """Judges a run by its criteria, and answers what they ask of it (``criteria.criterion.Run``).

    Parameters
    ----------
    pipeline : Pipeline
        The stages; they are run when a criterion first needs them.
    config : GateConfig, optional
        What the criteria are told of the settings; default: the pipeline's.
    """

    def __init__(self, pipeline: Pipeline, *, config: GateConfig | None = None) -> None:
        self.pipeline = pipeline
        self.config = config or pipeline.config
        self._stopwatch: Stopwatch | None = None

    def __call__(self, criterion_id: str) -> CriterionResult:
        """Judge one criterion.

        Raises
        ------
        MissingInput
            If the run lacks what it needs.
        """
        return find_criterion(criterion_id).judge(self)

    def records(self) -> pd.DataFrame:
        """Return the record table."""
        return self.pipeline.samples.records()

    def split(self) -> Split:
        """Return the train, validation and test ids."""
        return self.pipeline.samples.split()

    def leaks(self) -> LeakReport:
        """Return what the test set shares with the training part."""
        records, split = self.records(), self.split()
        with self.pipeline.cache.log.stage("look for leaks"):
            return find_leaks(records, split)

    def identity(self) -> IdentityBins:
        """Return how similar the test proteins are to training proteins."""
        return self.pipeline.samples.identity()

    def comparison(self) -> Representativeness:
        """Return how the test set compares with the training part."""
        data, records = self.config.data, self.records()
        is_test = self.split().masks(records["id"]).test
        with self.pipeline.cache.log.stage("compare distributions"):
            return compare_distributions(
                records,
                is_test,
                sampling_unit=data.sampling_unit,
                test_fraction=None if self.split().is_brought else data.test_fraction,
                seed=self.config.seed,
            )

    def inspections(self) -> list[StoreInspection]:
        """Return what was found in each store that a head of the run sees."""
        return inspect_embeddings(self.pipeline)

    def predictions(self) -> pd.DataFrame:
        """Return the test rows with the scores of both sides."""
        return self.pipeline.predictions()

    def windows(self) -> pd.DataFrame | None:
        """Return the test windows as both sides call them; None where they cannot be judged."""
        return self.pipeline.deployed().windows

    def placebo_scores(self) -> pd.DataFrame:
        """Return id and scores of the test rows by the heads that see the nucleotides alone.

        Raises
        ------
        MissingInput
            If the nucleotides cannot be told apart from what the baseline brings.
        """
        return self.pipeline.scores("placebo")

    def candidate_scores(self) -> pd.DataFrame:
        """Return id, label and score of the test rows: the candidate's alone."""
        test = self.pipeline.samples.part("test")[["id", "label"]]
        return test.merge(self.pipeline.scores("candidate"), on="id", validate="one_to_one")

    def reported_accuracy(self) -> tuple[Fraction, int] | None:
        """Return the baseline's accuracy and rows, if it brings these in place of predictions."""
        return self.pipeline.reported_metrics()

    def genomes(self, ids: pd.Series[str]) -> pd.Series[str] | None:
        """Return the genome of each of some test rows, or None if none is known."""
        return self.pipeline.samples.genomes(ids)

    def trainings(self) -> Mapping[Side, Mapping[str, Any]]:
        """Return how the heads were trained that this run has so far."""
        return self.pipeline.trainings()

    def caveats(self, *sides: Side) -> tuple[str, ...]:
        """Say which heads come from elsewhere, and how many test rows are of no known genome."""
        samples, notes = self.pipeline.samples, warn_of_brought(self.config, sides=sides)
        n_unknown, n_rows = len(samples.without_taxonomy()), len(samples.part("test"))
        text = (
            f"{n_unknown:,} of {n_rows:,} test rows are of accessions that the taxonomy does not "
            "know; they count as one genome"
        )
        return (*notes, text) if n_unknown else notes

    def taxonomy_steps(self) -> tuple[str, ...]:
        """Name the accessions of test rows that are of no known genome."""
        unknown = self.pipeline.samples.without_taxonomy()["accession"]
        names = unknown.drop_duplicates().tolist()
        return (f"Add to the taxonomy: {name_some(names)}",) if names else ()

    def timing(self) -> CriterionResult:
        """Return the rounds that the stopwatch has kept, judged.

        Raises
        ------
        ArtifactError
            If there is no stopwatch, or it lacks rounds.
        """
        if self._stopwatch is None:
            raise ArtifactError("nothing was timed: run acceptance/ whole, without -k")
        return self._stopwatch.judge()

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
