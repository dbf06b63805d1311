"""Known faults, each planted in a copy of a finished run: what the gate must notice.

A fault is a file, a table, a split, an embedder or a clock that a copy takes for its own. What a
copy is stands in :mod:`harness.pipeline.bench`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd

from harness.embedding import Embedder
from harness.gate import CriterionResult, State, predict_labels
from harness.pipeline.bench import Bench
from harness.pipeline.timing_faults import at_percent, same_model
from harness.training import load_head

__all__ = ["FAULTS", "Fault"]

# Rows cut off a predictions file: few enough for an error to name them all.
CUT_ROWS = 3

Plant = Callable[[Bench], CriterionResult]
Confirm = Callable[[Bench, CriterionResult], bool]


def _by_state_alone(bench: Bench, result: CriterionResult) -> bool:  # noqa: ARG001 - a Confirm
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One known fault.

    Attributes
    ----------
    name : str
        What is wrong.
    criterion : str
        Which criterion must notice.
    expected : frozenset of State
        How it must come out.
    plant : callable
        Plants the fault in a copy of a run and judges it.
    confirm : callable
        Whether the result also says what it must say.
    """

    name: str
    criterion: str
    expected: frozenset[State]
    plant: Plant
    confirm: Confirm = _by_state_alone


def _same_predictions(bench: Bench) -> CriterionResult:
    same = bench.scores("baseline")
    return bench.with_predictions(same, same).accuracy_drop()


def _shuffled_rows(bench: Bench) -> CriterionResult:
    features = bench.honest.vectors.features("candidate", bench.predictions["id"])
    head = load_head(Path(bench.honest.files()["checkpoint"]["path"]))
    scores = head.predict(bench.rng().permutation(features)).astype(np.float64)
    candidate = bench.scores("candidate", scores)
    return bench.with_predictions(bench.scores("baseline"), candidate).accuracy_drop()


def _n_flipped(bench: Bench, percent: int) -> int:
    return round(Fraction(percent * len(bench.predictions), 100))


def _flipped(percent: int) -> Plant:
    """Return a candidate that has that share of rows wrong where the baseline is right."""

    def plant(bench: Bench) -> CriterionResult:
        predicted = predict_labels(bench.predictions["baseline_score"])
        right = np.flatnonzero(predicted == bench.predictions["label"].to_numpy())
        chosen = bench.rng().choice(right, _n_flipped(bench, percent), replace=False)
        scores = bench.predictions["baseline_score"].to_numpy(copy=True)
        scores[chosen] = 1.0 - predicted[chosen]
        candidate = bench.scores("candidate", scores)
        return bench.with_predictions(bench.scores("baseline"), candidate).accuracy_drop()

    return plant


def _drops_by(percent: int) -> Confirm:
    """Return whether the drop is that share of the rows, exactly."""

    def confirm(bench: Bench, result: CriterionResult) -> bool:
        return result.value == Fraction(100 * _n_flipped(bench, percent), len(bench.predictions))

    return confirm


def _leaked_row(bench: Bench) -> CriterionResult:
    split = bench.honest.samples.split()
    train = pd.concat([split.train, split.test[:1]]).sort_values(ignore_index=True)
    return bench.with_split(replace(split, train=train)).split_integrity()


def _one_lineage(bench: Bench) -> CriterionResult:
    """Replace the viral test rows by those of the largest viral lineage, as far as they reach."""
    records, split = bench.honest.samples.records(), bench.honest.samples.split()
    is_test = split.masks(records["id"]).test
    viral = records[records["label"] == 1]
    largest = viral["lineage"].value_counts().idxmax()
    of_lineage = viral["id"][viral["lineage"] == largest]
    honest = records["id"][is_test & (records["label"] == 1)]
    chosen = pd.concat([of_lineage, honest]).drop_duplicates().head(len(honest))
    test = pd.concat([records["id"][is_test & (records["label"] == 0)], chosen])
    rest = records["id"][~records["id"].isin(test)]
    validation = split.validation[~split.validation.isin(test)]
    skewed = replace(
        split,
        train=rest[~rest.isin(validation)].sort_values(ignore_index=True),
        validation=validation,
        test=test.sort_values(ignore_index=True),
    )
    return bench.with_split(skewed).representative_split()


def _swapped_checkpoint(bench: Bench) -> CriterionResult:
    """Give the candidate's store to other weights: of the same shape where they are random."""
    baseline, shape = (
        bench.honest.vectors.embedder("baseline"),
        bench.config.candidate.random_weights,
    )
    other: Embedder = baseline
    if shape is not None:
        other_weights = replace(
            bench.config.candidate, random_weights=replace(shape, seed=shape.seed + 1)
        )
        config = replace(bench.config, candidate=other_weights)
        other = bench.copy(config=config).pipeline.vectors.embedder("candidate")
    return bench.with_embedders({"baseline": baseline, "candidate": other}).embedding_integrity()


def _ignorant_baseline(bench: Bench) -> CriterionResult:
    shuffled = bench.rng().permutation(bench.predictions["baseline_score"].to_numpy())
    baseline = bench.scores("baseline", shuffled)
    return bench.with_predictions(baseline, bench.scores("candidate")).baseline_sanity()


def _truncated_file(bench: Bench) -> CriterionResult:
    baseline = bench.scores("baseline").head(-CUT_ROWS)
    return bench.with_predictions(baseline, bench.scores("candidate")).accuracy_drop()


def _names_missing_ids(bench: Bench, result: CriterionResult) -> bool:
    missing = bench.predictions["id"].tail(CUT_ROWS)
    return "DataError" in result.detail and all(name in result.detail for name in missing)


PASSES, FAILS = frozenset({State.PASS}), frozenset({State.FAIL})
DOES_NOT_FAIL = frozenset({State.PASS, State.INCONCLUSIVE})
DOES_NOT_PASS = frozenset({State.FAIL, State.INCONCLUSIVE})
ERRS = frozenset({State.ERROR})

# Each with the percentages that the deployment's limits, 5 points and half the time, decide.
FAULTS = (
    Fault(
        name="candidate = baseline: predictions",
        criterion="accuracy-drop",
        expected=PASSES,
        plant=_same_predictions,
        confirm=_drops_by(0),
    ),
    Fault(
        name="candidate = baseline: time",
        criterion="embedding-time",
        expected=FAILS,
        plant=same_model,
    ),
    Fault(
        name="the candidate's rows shuffled",
        criterion="accuracy-drop",
        expected=FAILS,
        plant=_shuffled_rows,
    ),
    Fault(
        name="8% of the rows flipped",
        criterion="accuracy-drop",
        expected=FAILS,
        plant=_flipped(8),
        confirm=_drops_by(8),
    ),
    Fault(
        name="4% of the rows flipped",
        criterion="accuracy-drop",
        expected=DOES_NOT_FAIL,
        plant=_flipped(4),
        confirm=_drops_by(4),
    ),
    Fault(
        name="51% of the time",
        criterion="embedding-time",
        expected=FAILS,
        plant=at_percent(51),
    ),
    Fault(
        name="50% of the time",
        criterion="embedding-time",
        expected=PASSES,
        plant=at_percent(50),
    ),
    Fault(
        name="a test row in training",
        criterion="split-integrity",
        expected=FAILS,
        plant=_leaked_row,
    ),
    Fault(
        name="a test set of one lineage",
        criterion="representative-split",
        expected=FAILS,
        plant=_one_lineage,
    ),
    Fault(
        name="a swapped checkpoint",
        criterion="embedding-integrity",
        expected=FAILS,
        plant=_swapped_checkpoint,
    ),
    Fault(
        name="a baseline that guesses",
        criterion="baseline-sanity",
        expected=DOES_NOT_PASS,
        plant=_ignorant_baseline,
    ),
    Fault(
        name="truncated predictions",
        criterion="accuracy-drop",
        expected=ERRS,
        plant=_truncated_file,
        confirm=_names_missing_ids,
    ),
)
