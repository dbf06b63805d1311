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

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.config import GateConfig, Thresholds
from harness.criteria import CriterionResult, State, predict_labels
from harness.criteria.speed import time_rounds
from harness.data import Split
from harness.embedding import Embedder, EmbeddingStore
from harness.pipeline.judge import Judge
from harness.pipeline.samples import DrawnSplit
from harness.pipeline.stages import Pipeline
from harness.pipeline.stopwatch import Stopwatch
from harness.pipeline.vectors import SIDES, Embedded, Side
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
        drawn: DrawnSplit | None = None,
        embedders: Mapping[Side, Embedder] | None = None,
        embeddings: Mapping[Side, Embedded[EmbeddingStore]] | None = None,
    ) -> Judge:
        """Return the criteria of a copy of the run; what it takes for made is not made anew.

        Parameters
        ----------
        config, drawn : optional
            Settings and split in place of the run's. Records and identities are the run's own.
        embedders, embeddings : mappings by side, optional
            What the copy takes for loaded and for embedded.
        """
        honest, folder = self.honest, Path(tempfile.mkdtemp(dir=self._scratch))
        copied = Pipeline(config or self.config, folder)
        copied.samples.stored.take(honest.samples.stored())
        copied.samples.records.take(honest.samples.records())
        copied.samples.drawn.take(drawn or honest.samples.drawn())
        copied.samples.identity.take(honest.samples.identity())
        for side, embedder in (embedders or {}).items():
            copied.vectors.embedder.take(embedder, side)
        for side, embedded in (embeddings or {}).items():
            copied.vectors.embeddings.take(embedded, side)
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
        return self.copy(drawn=replace(self.honest.samples.drawn(), split=split))

    def with_embedders(self, embedders: Mapping[Side, Embedder]) -> Judge:
        """Return the criteria of a copy with other embedders; each side keeps its own store."""
        vectors = self.honest.vectors
        stores = {side: vectors.embeddings(side) for side in SIDES}
        copied = self.copy(embedders=embedders, embeddings=stores)
        copied.pipeline.vectors.nucleotides.take(vectors.nucleotides())
        return copied


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
    other = baseline
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
    vectors, own = bench.honest.vectors, bench.config.timing
    timing = replace(own, sequences=min(TIMED_SEQUENCES, own.sequences), attempts=ATTEMPTS)
    copied = bench.copy(
        config=replace(bench.config, candidate=bench.config.baseline, timing=timing),
        embedders=dict.fromkeys(SIDES, vectors.embedder("baseline")),
        embeddings=dict.fromkeys(SIDES, vectors.embeddings("baseline")),
    )
    with copied.stopwatch() as stopwatch:
        return _measure(stopwatch, bench.clock)


class _SlowedEmbedder:
    """An embedder whose every call moves a clock on by a given time."""

    def __init__(self, embedder: Embedder, seconds: float, now: list[float]) -> None:
        self._embedder, self._seconds, self._now = embedder, seconds, now
        self.name, self.dim, self.digest = embedder.name, embedder.dim, embedder.digest
        self.dtype, self.facts = embedder.dtype, embedder.facts

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Embed, and let the time pass."""
        self._now[0] += self._seconds
        return self._embedder.embed(sequences, token_budget, on_progress)


def at_percent(percent: int) -> Callable[[Bench], CriterionResult]:
    """Return a candidate at that share of the baseline's time, by a clock of its own."""

    def plant(bench: Bench) -> CriterionResult:
        vectors, now = bench.honest.vectors, [0.0]
        sample = bench.honest.samples.part("test").head(1)
        seconds: dict[Side, float] = {"baseline": 100.0, "candidate": float(percent)}
        stopwatch = Stopwatch(
            {s: _SlowedEmbedder(vectors.embedder(s), seconds[s], now) for s in SIDES},
            sample["protein"].tolist(),
            {side: vectors.proteins(side).store.rows(sample["id"]) for side in SIDES},
            limit_ratio=bench.config.thresholds.max_time_ratio,
            runs=bench.config.timing.runs,
            attempts=1,
            clock=lambda: now[0],
        )
        return _measure(stopwatch, lambda: now[0])

    return plant


def _measure(stopwatch: Stopwatch, clock: Callable[[], float]) -> CriterionResult:
    for side in SIDES:
        work = stopwatch.warmed_up(side)
        stopwatch.keep(side, time_rounds(work, stopwatch.runs, clock=clock))
    stopwatch.keep("closing", time_rounds(stopwatch.work("baseline"), 1, clock=clock))
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
