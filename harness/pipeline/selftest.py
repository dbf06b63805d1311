"""The self-test: known faults, planted in copies of a finished run, and whether the gate sees them.

Which faults, and how the gate must take them, stands with each criterion. The stages of a copy are
those of any run; what it writes goes to a scratch folder, so that nothing of it ever stands in the
work directory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.config import GateConfig, Thresholds
from harness.criteria import CRITERIA, Criterion, CriterionResult, Fault, State
from harness.criteria.criterion import Bench, Run, Stand
from harness.criteria.speed import read_clock, time_rounds
from harness.data import Split
from harness.embedding import Embedder, EmbeddingStore, SomeColumns
from harness.embedding.embedder import Rows
from harness.errors import MissingInput
from harness.pipeline.facts import FaultOutcome, SelfTestResult, keep_selftest
from harness.pipeline.judge import Judge
from harness.pipeline.samples import DrawnSplit
from harness.pipeline.stages import Pipeline
from harness.pipeline.stopwatch import Stopwatch, compute_threads
from harness.pipeline.vectors import SIDES, Embedded, Side
from harness.progress import Progress
from harness.training import load_head

__all__ = ["list_plantings", "run_selftest", "show_selftest"]


# Enough to see a ratio of about 1; the gate itself times more.
TIMED_SEQUENCES = 32
# Enough different ones that no head learns them by heart.
NOISE_ROWS = 10_000
# A busy machine must not make a sound gate look broken: it would take noise of a factor of two,
# in each attempt.
ATTEMPTS = 5


class CopyBench:
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
    run : Run
        The run as it is, told a deployment's limits: each fault has a known outcome under these.
    """

    def __init__(self, honest: Pipeline, scratch: Path, clock: Callable[[], float]) -> None:
        self._honest = honest
        self._clock = clock
        self._config = replace(honest.config, thresholds=Thresholds())
        self._scratch = scratch
        self.run: Run = Judge(honest, config=self._config)
        honest.predictions()

    def rng(self) -> np.random.Generator:
        """Return a generator that is the same for every fault."""
        return np.random.default_rng(self._config.seed)

    def with_scores(self, *, baseline: npt.ArrayLike, candidate: npt.ArrayLike) -> Run:
        """Return a copy whose sides bring files of such scores of the first test rows."""
        config, folder = self._config, Path(tempfile.mkdtemp(dir=self._scratch))
        ids = self._honest.predictions()["id"]
        for side, scores in zip(SIDES, (baseline, candidate), strict=True):
            values = np.asarray(scores, dtype=np.float64)
            path = folder / f"{side}.parquet"
            pd.DataFrame({"id": ids[: len(values)], "score": values}).to_parquet(path)
            settings = getattr(config, side)
            brought = replace(settings, predictions=path, metrics=None, checkpoint=None)
            config = replace(config, **{side: brought})
        return self._copy(config=config)

    def with_shuffled_features(self) -> Run:
        """Return a copy whose candidate sees other rows' features."""
        rows = self._honest.predictions()
        features = self._honest.vectors.features("candidate", rows["id"])
        head = load_head(Path(self._honest.files()["checkpoint"]["path"]))
        scores = head.predict(self.rng().permutation(features))
        return self.with_scores(baseline=rows["baseline_score"], candidate=scores)

    def with_candidate_vectors(self, kind: Stand) -> Run:
        """Return a copy whose candidate's head is trained on vectors that tell it nothing.

        One head, of the declared seed, is enough to see it.
        """
        config, vectors = self._config, self._honest.vectors
        own = replace(config.candidate, predictions=None, checkpoint=None)
        training = replace(config.training, seeds=1)
        copied = self._copy(config=replace(config, candidate=own, training=training))
        nucleotides, merged = vectors.nucleotide_columns(), vectors.merged("candidate")
        proteins = (
            SomeColumns(merged, slice(nucleotides.dim, None))
            if merged
            else vectors.proteins("candidate").store
        )
        stand_in = _StandIn(proteins, kind, self.rng())
        planted = copied.pipeline.vectors
        planted.feature_stores.take([nucleotides, stand_in], "candidate")
        planted.feature_digests.take({"planted": kind}, "candidate")
        scores = self._honest.scores("baseline")[["id", "score"]]
        copied.pipeline.scored.take(scores, "baseline")
        return copied

    def with_split(self, split: Split) -> Run:
        """Return a copy that has drawn another split."""
        return self._copy(drawn=replace(self._honest.samples.drawn(), split=split))

    def with_other_weights(self) -> Run:
        """Return a copy whose candidate's embeddings are given to other weights.

        Of the same shape where they are random; else the baseline's.
        """
        honest, settings = self._honest, self._config.candidate
        baseline = honest.vectors.embedder("baseline")
        other: Embedder = baseline
        if (shape := settings.random_weights) is not None:
            weights = replace(settings, random_weights=replace(shape, seed=shape.seed + 1))
            copied = self._copy(config=replace(self._config, candidate=weights))
            other = copied.pipeline.vectors.embedder("candidate")
        copied = self._copy(
            embedders={"baseline": baseline, "candidate": other},
            embeddings={side: honest.vectors.embeddings(side) for side in SIDES},
        )
        copied.pipeline.vectors.nucleotides.take(honest.vectors.nucleotides())
        return copied

    def with_same_model(self) -> Run:
        """Return a copy in which the baseline was timed against itself."""
        honest, own = self._honest, self._config.timing
        timing = replace(own, sequences=min(TIMED_SEQUENCES, own.sequences), attempts=ATTEMPTS)
        copied = self._copy(
            config=replace(self._config, candidate=self._config.baseline, timing=timing),
            embedders=dict.fromkeys(SIDES, honest.vectors.embedder("baseline")),
            embeddings=dict.fromkeys(SIDES, honest.vectors.embeddings("baseline")),
        )
        with copied.stopwatch() as stopwatch:
            _measure(stopwatch, self._clock)
        return copied

    def with_seconds(self, *, baseline: float, candidate: float) -> Run:
        """Return a copy in which each round of a side took so many seconds, by its own clock."""
        vectors, now = self._honest.vectors, [0.0]
        sample = self._honest.samples.part("test").drop_duplicates("protein").head(8)
        seconds = dict(zip(SIDES, (baseline, candidate), strict=True))
        stopwatch = Stopwatch(
            {s: _SlowedEmbedder(vectors.embedder(s), seconds[s], now) for s in SIDES},
            sample["protein"].tolist(),
            {side: vectors.proteins(side).store.rows(sample["id"]) for side in SIDES},
            limit_ratio=self._config.thresholds.max_time_ratio,
            runs=self._config.timing.runs,
            attempts=1,
            clock=lambda: now[0],
        )
        _measure(stopwatch, lambda: now[0])
        return self.with_answers(timing=stopwatch.judge())

    def with_answers(self, **answers: Any) -> Run:
        """Return the run, but for some methods, by name, that return something else.

        Raises
        ------
        TypeError
            If a run has no such method.
        """
        if unknown := [name for name in answers if not hasattr(self.run, name)]:
            raise TypeError(f"a run has no {unknown[0]}()")
        return cast("Run", _AnsweringRun(self.run, answers))

    def _copy(
        self,
        *,
        config: GateConfig | None = None,
        drawn: DrawnSplit | None = None,
        embedders: Mapping[Side, Embedder] | None = None,
        embeddings: Mapping[Side, Embedded[EmbeddingStore]] | None = None,
    ) -> Judge:
        """Return a copy of the run; what it takes for made is not made anew.

        Parameters
        ----------
        config, drawn : optional
            Settings and split in place of the run's. Records and identities are the run's own.
        embedders, embeddings : mappings by side, optional
            What the copy takes for loaded and for embedded.
        """
        honest, folder = self._honest, Path(tempfile.mkdtemp(dir=self._scratch))
        copied = Pipeline(config or self._config, folder)
        copied.samples.stored.take(honest.samples.stored())
        copied.samples.records.take(honest.samples.records())
        copied.samples.drawn.take(drawn or honest.samples.drawn())
        copied.samples.identity.take(honest.samples.identity())
        if drawn is None:
            copied.samples.windows.take(honest.samples.windows())
        for side, embedder in (embedders or {}).items():
            copied.vectors.embedder.take(embedder, side)
        for side, embedded in (embeddings or {}).items():
            copied.vectors.embeddings.take(embedded, side)
        if drawn is None and "placebo_score" in honest.predictions():
            copied.scored.take(honest.scored("placebo"), "placebo")
        return Judge(copied)


class _StandIn:
    """Vectors as wide as a store's that tell nothing of the records they are given to."""

    def __init__(self, store: Rows, kind: Stand, rng: np.random.Generator) -> None:
        self._store, self._kind = store, kind
        self.dim, self.ids = store.dim, store.ids
        self._others = pd.Series(rng.permutation(self.ids), index=self.ids)
        drawn = rng.standard_normal((min(len(self.ids), NOISE_ROWS), self.dim))
        self._noise = drawn.astype(np.float32)

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Sequence[str] | pd.Series[str]) -> npt.NDArray[np.float32]:
        """Return a vector for each of some records, always the same for the same record."""
        if self._kind == "other proteins":
            return self._store.rows(self._others[list(ids)])
        if self._kind == "zeros":
            return np.zeros((len(ids), self.dim), dtype=np.float32)
        return self._noise[self.ids.get_indexer(pd.Index(ids)) % len(self._noise)]


class _AnsweringRun:
    """A run, but for what it was told to answer."""

    def __init__(self, run: Run, answers: Mapping[str, Any]) -> None:
        self._run, self._answers = run, answers

    def __getattr__(self, name: str) -> Any:
        if name in self._answers:
            return lambda *_: self._answers[name]
        return getattr(self._run, name)


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


def _measure(stopwatch: Stopwatch, clock: Callable[[], float]) -> None:
    stopwatch.warm_up()
    for side in stopwatch.turns:
        stopwatch.keep(side, *time_rounds(stopwatch.work(side), 1, clock=clock))


# A criterion, and a fault that it must notice.
Planting = tuple[Criterion, Fault]

COLUMNS = ("fault", "criterion", "expected", "found", "")


def list_plantings() -> tuple[Planting, ...]:
    """Return every fault of every criterion."""
    return tuple((criterion, fault) for criterion in CRITERIA for fault in criterion.faults())


def run_selftest(
    pipeline: Pipeline,
    work_dir: Path,
    *,
    plantings: Sequence[Planting] | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = read_clock,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> SelfTestResult:
    """Plant each fault in a copy of a run and see how the gate takes it; keep the result.

    Parameters
    ----------
    pipeline : Pipeline
        The run; its stages are computed or reused, and never changed.
    work_dir : Path
        Where the result is kept: ``selftest/<digest of the configuration>.json``.
    plantings : sequence of (Criterion, Fault), optional
        What to plant; default: every fault of every criterion.
    progress : Progress, optional
        Shows one line a fault.
    clock : callable
        Returns seconds; times the baseline against itself.
    now : callable
        Returns the time at which the self-test ended.

    Raises
    ------
    HarnessError
        If the run that is to be copied cannot be completed.
    """
    progress = progress or Progress()
    with (
        compute_threads(pipeline.config.threads),
        tempfile.TemporaryDirectory(prefix="selftest-") as scratch,
    ):
        bench = CopyBench(pipeline, Path(scratch), clock)
        chosen = list_plantings() if plantings is None else plantings
        outcomes = tuple(_try(*planting, bench, progress) for planting in chosen)
    finished = now().isoformat(timespec="seconds")
    result = SelfTestResult(outcomes=outcomes, finished=finished)
    keep_selftest(result, work_dir, pipeline.config)
    return result


def show_selftest(result: SelfTestResult, console: Console) -> None:
    """Print a table of the outcomes, what went otherwise than expected, and a count.

    In a terminal the table is drawn; elsewhere it is plain text, one line a fault.
    """
    rows = [_row(outcome) for outcome in result.outcomes]
    if console.is_terminal:
        console.print(_drawn(rows))
    else:
        widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
        for row in (COLUMNS, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            _print(console, "  ".join(cells).rstrip())
    for outcome in result.outcomes:
        if not outcome.is_caught:
            _print(console, f"{outcome.fault}: {outcome.found}. {outcome.detail}")
    total = len(result.outcomes)
    _print(console, f"{total - result.failed} of {total} as expected")


def _try(criterion: Criterion, fault: Fault, bench: Bench, progress: Progress) -> FaultOutcome:
    with progress.task(fault.name, 1, "fault") as task:
        result = _judge(criterion, fault, bench)
        task.advance(1, result.state.value)
    return FaultOutcome(
        fault=fault.name,
        criterion=criterion.id,
        expected=tuple(sorted(fault.expected)),
        found=result.state,
        detail=result.detail,
        is_caught=result.state in fault.expected and fault.confirm(bench, result),
    )


def _judge(criterion: Criterion, fault: Fault, bench: Bench) -> CriterionResult:
    """Judge a planted fault; an exception becomes the state that the gate would give it."""
    try:
        return criterion.judge(fault.plant(bench))
    except MissingInput as error:
        return CriterionResult(id=criterion.id, state=State.NOT_RUN, detail=str(error))
    except Exception as error:  # noqa: BLE001 - as in the gate, whatever it is: ERROR
        detail = f"{type(error).__name__}: {error}"
        return CriterionResult(id=criterion.id, state=State.ERROR, detail=detail)


def _row(outcome: FaultOutcome) -> tuple[str, ...]:
    mark = "as expected" if outcome.is_caught else "NOT AS EXPECTED"
    return (outcome.fault, outcome.criterion, " or ".join(outcome.expected), outcome.found, mark)


def _drawn(rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*COLUMNS, title="Self-test of the gate")
    for row, is_good in ((row, row[-1] == "as expected") for row in rows):
        table.add_row(*map(Text, row), style=None if is_good else "bold red")
    return table


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
