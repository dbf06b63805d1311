"""Known faults, each planted in a copy of a finished run: what the gate must notice.

A fault is a file, a table, a split, an embedder or a clock that a copy takes for its own. What a
copy is stands in :mod:`harness.pipeline.faults`.

Planted faults of time: a candidate that is no faster, or only almost fast enough.

Which state each must lead to stands in :mod:`harness.pipeline.faults`.

A finished run and copies of it, for faults to be planted in.

The stages and criteria of a copy are those of any run; what it writes goes to a scratch folder, so
that nothing of a copy ever stands in the work directory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.artifacts import Artifact
from harness.config import GateConfig, Thresholds
from harness.criteria import CriterionResult, State, predict_labels
from harness.criteria.speed import time_rounds
from harness.data import Split
from harness.embedding import Embedder
from harness.pipeline.judge import Judge
from harness.pipeline.stages import Pipeline
from harness.pipeline.stopwatch import BatchingEmbedder, Stopwatch
from harness.pipeline.vectors import SIDES, Side
from harness.training import load_head

__all__ = [
    "FAULTS",
    "Bench",
    "Fault",
    "at_percent",
    "same_model",
]


Scores = npt.NDArray[np.float64]


class Bench:
    """A finished run, and copies of it that faults are planted in.

    Parameters
    ----------
    honest : Pipeline
        The run; stages that it lacks are computed.
    scratch : Path
        Takes what the copies write.
    clock : callable
        Returns seconds; what a real measurement is timed with.

    Attributes
    ----------
    config : GateConfig
        Of the run, with a deployment's limits: each fault has a known outcome under these.
    """

    def __init__(self, honest: Pipeline, scratch: Path, clock: Callable[[], float]) -> None:
        self.honest = honest
        self.clock = clock
        self.config = replace(honest.config, thresholds=Thresholds())
        self.predictions = honest.predictions()
        self._scratch = scratch

    def rng(self) -> np.random.Generator:
        """Return a generator that is the same for every fault."""
        return np.random.default_rng(self.config.seed)

    def copy(
        self,
        *,
        config: GateConfig | None = None,
        made: Mapping[str, Any] | None = None,
        artifacts: Mapping[str, Artifact] | None = None,
    ) -> Judge:
        """Return the criteria of a copy of the run.

        Parameters
        ----------
        config : GateConfig, optional
            Settings in place of the run's.
        made, artifacts : mapping, optional
            What the copy takes for made, besides records, split and identities: by cache name.
        """
        honest, folder = self.honest, Path(tempfile.mkdtemp(dir=self._scratch))
        copied = Pipeline(config or self.config, folder)
        names = ("records", "split")
        copied.cache.artifacts.update({name: honest.cache.artifacts[name] for name in names})
        copied.cache.artifacts.update(artifacts or {})
        tables = {
            "records": honest.samples.records(),
            "split": honest.cache.made("split"),
            "identity": honest.samples.identity(),
        }
        for name, value in (tables | dict(made or {})).items():
            copied.cache.once(name, lambda value=value: value)  # type: ignore[misc] # bound here
        return Judge(copied)

    def with_predictions(self, baseline: pd.DataFrame, candidate: pd.DataFrame) -> Judge:
        """Return the criteria of a copy whose sides bring files of predictions (id, score)."""
        config, folder = self.config, Path(tempfile.mkdtemp(dir=self._scratch))
        for side, table in zip(SIDES, (baseline, candidate), strict=True):
            table.to_parquet(folder / f"{side}.parquet")
            settings = getattr(config, side)
            brought = replace(
                settings, predictions=folder / f"{side}.parquet", metrics=None, checkpoint=None
            )
            config = replace(config, **{side: brought})
        return self.copy(config=config)

    def scores(self, side: Side, scores: Scores | None = None) -> pd.DataFrame:
        """Return id and score of the test rows: a side's own scores, or others."""
        own = self.predictions[f"{side}_score"].to_numpy()
        return pd.DataFrame(
            {"id": self.predictions["id"], "score": own if scores is None else scores}
        )

    def with_split(self, split: Split) -> Judge:
        """Return the criteria of a copy that has drawn another split."""
        drawn = replace(self.honest.cache.made("split"), split=split)
        return self.copy(made={"split": drawn})

    def with_embedders(self, embedders: Mapping[Side, Embedder]) -> Judge:
        """Return the criteria of a copy with other embedders; each side keeps its own store."""
        honest = self.honest
        stores: dict[str, Any] = {
            f"store {side}": honest.vectors.embeddings(side) for side in SIDES
        }
        stores["store nucleotide"] = honest.vectors.nucleotide_embeddings()
        names = ("embeddings baseline", "embeddings candidate", "embeddings nucleotide")
        return self.copy(
            made=stores | {f"embedder {side}": x for side, x in embedders.items()},
            artifacts={name: honest.cache.artifacts[name] for name in names},
        )


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


# Enough to see a ratio of about 1; the gate itself times more.
TIMED_SEQUENCES = 32
# A busy machine must not make a sound gate look broken: it would take noise of a factor of two,
# in each attempt.
ATTEMPTS = 5


def same_model(bench: Bench) -> CriterionResult:
    """Time the baseline against itself, by the bench's clock."""
    honest = bench.honest
    own = bench.config.timing
    timing = replace(own, sequences=min(TIMED_SEQUENCES, own.sequences), attempts=ATTEMPTS)
    copied = bench.copy(
        config=replace(bench.config, candidate=bench.config.baseline, timing=timing),
        made={f"embedder {side}": honest.vectors.embedder("baseline") for side in SIDES}
        | {f"store {side}": honest.vectors.embeddings("baseline") for side in SIDES},
        artifacts={
            f"embeddings {side}": honest.cache.artifacts["embeddings baseline"] for side in SIDES
        },
    )
    with copied.stopwatch() as stopwatch:
        return _measure(stopwatch, bench.clock)


class _SlowedEmbedder:
    """An embedder whose every call moves a clock on by a given time."""

    n_out_of_memory = 0

    def __init__(self, embedder: BatchingEmbedder, seconds: float, now: list[float]) -> None:
        self._embedder, self._seconds, self._now = embedder, seconds, now
        self.name, self.dim, self.digest = embedder.name, embedder.dim, embedder.digest
        self.token_budget = embedder.token_budget

    def limit_tokens(self, token_budget: int) -> None:
        """Let no batch hold more tokens than this."""
        self._embedder.limit_tokens(token_budget)

    def embed(
        self, sequences: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Embed, and let the time pass."""
        self._now[0] += self._seconds
        return self._embedder.embed(sequences, on_progress=on_progress)


def at_percent(percent: int) -> Callable[[Bench], CriterionResult]:
    """Return a candidate at that share of the baseline's time, by a clock of its own."""

    def plant(bench: Bench) -> CriterionResult:
        vectors, now = bench.honest.vectors, [0.0]
        sample = bench.honest.samples.part("test").drop_duplicates("protein").head(8)
        seconds: dict[Side, float] = {"baseline": 100.0, "candidate": float(percent)}
        stopwatch = Stopwatch(
            {s: _SlowedEmbedder(vectors.embedder(s), seconds[s], now) for s in SIDES},
            sample["protein"].tolist(),
            {side: vectors.proteins(side).rows(sample["id"]) for side in SIDES},
            limit_ratio=bench.config.thresholds.max_time_ratio,
            runs=bench.config.timing.runs,
            attempts=1,
            clock=lambda: now[0],
        )
        return _measure(stopwatch, lambda: now[0])

    return plant


def _measure(stopwatch: Stopwatch, clock: Callable[[], float]) -> CriterionResult:
    stopwatch.warm_up()
    for side in stopwatch.turns:
        stopwatch.keep(side, *time_rounds(stopwatch.work(side), 1, clock=clock))
    return stopwatch.judge()


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
