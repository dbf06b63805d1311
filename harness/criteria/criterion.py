"""What a criterion is: the facts that stand in one list, what it asks of a run, its planted faults.

The list itself is :data:`harness.criteria.CRITERIA`; how each criterion judges stands in a module
of its own. Who answers for a run is no matter of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

from harness.criteria.result import CriterionResult, State
from harness.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    import numpy as np
    import pandas as pd
    from numpy.typing import ArrayLike

    from harness.config import GateConfig
    from harness.criteria.embedding_integrity import StoreInspection
    from harness.data import LeakReport, Representativeness, Split
    from harness.data.leakage import IdentityBins

__all__ = [
    "DOES_NOT_FAIL",
    "DOES_NOT_PASS",
    "ERRS",
    "FAILS",
    "GROUP",
    "PASSES",
    "Bench",
    "Criterion",
    "Fault",
    "Run",
    "Stand",
    "load_criteria",
]

# The entry points by which other packages add criteria.
GROUP = "harness.criteria"

Side = Literal["baseline", "candidate"]
# How a value is compared with its limit, in words; the comparison itself is the judge's.
Comparison = Literal["below", "at most", "lower end above"]

# What stands in place of a candidate's vectors: numbers drawn at random, zeros, or the vectors of
# other records.
Stand = Literal["noise", "zeros", "other proteins"]

PASSES, FAILS = frozenset({State.PASS}), frozenset({State.FAIL})
DOES_NOT_FAIL = frozenset({State.PASS, State.INCONCLUSIVE})
DOES_NOT_PASS = frozenset({State.FAIL, State.INCONCLUSIVE})
ERRS = frozenset({State.ERROR})


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One requirement, and everything that follows from its being one.

    Attributes
    ----------
    id : str
        Its name, such as ``accuracy-drop``. Without a PASS under it, the verdict is HALT.
    question : str
        What it asks, for readers who do not know its name.
    unit : str
        Of its value, limit and interval.
    comparison : str
        How its value must lie to the limit: ``below``, ``at most`` or ``lower end above``.
    module : str
        Where it is judged, imported when first needed: ``judge(run)`` there takes a ``Run`` and
        returns a ``CriterionResult``; ``FAULTS`` are the faults that the self-test plants for it.
    section : str
        Title of the report's section that shows its evidence.
    has_own_blocks : bool
        Whether that section's own blocks show it; else it is shown there as plain tables.
    deployment_limit : Fraction or None
        The loosest limit that ``harness verify`` lets pass, where the settings may choose one.
    """

    id: str
    question: str
    unit: str
    comparison: Comparison
    module: str
    section: str
    has_own_blocks: bool = False
    deployment_limit: Fraction | None = None

    def judge(self, run: Run) -> CriterionResult:
        """Judge a run.

        Raises
        ------
        ValueError
            If the module returns another criterion's result, or one in another unit.
        """
        result: CriterionResult = import_module(self.module).judge(run)
        if result.id != self.id or result.unit not in ("", self.unit):
            raise ValueError(
                f"{self.module}.judge: expected a result of {self.id!r} in {self.unit!r}, "
                f"got one of {result.id!r} in {result.unit!r}"
            )
        return result

    def faults(self) -> tuple[Fault, ...]:
        """Return what the self-test plants for it."""
        faults: tuple[Fault, ...] = import_module(self.module).FAULTS
        return faults


class Run(Protocol):
    """What a criterion may ask of a run; what is not there yet is made when it is asked for."""

    @property
    def config(self) -> GateConfig:
        """The settings, limits among them."""

    def records(self) -> pd.DataFrame:
        """Return the record table."""

    def split(self) -> Split:
        """Return the train, validation and test ids."""

    def leaks(self) -> LeakReport:
        """Return what the test set shares with the training part."""

    def identity(self) -> IdentityBins:
        """Return how similar the test proteins are to training proteins."""

    def comparison(self) -> Representativeness:
        """Return how the test set compares with the training part."""

    def inspections(self) -> Sequence[StoreInspection]:
        """Return what was found in each store of embeddings."""

    def predictions(self) -> pd.DataFrame:
        """Return the test rows: id, label, lineage, ..., baseline_score, candidate_score."""

    def windows(self) -> pd.DataFrame | None:
        """Return the test windows as both sides call them; None where they cannot be judged."""

    def placebo_scores(self) -> pd.DataFrame:
        """Return id and scores of the test rows by the heads that see the nucleotides alone."""

    def candidate_scores(self) -> pd.DataFrame:
        """Return id, label and score of the test rows: the candidate's alone."""

    def reported_accuracy(self) -> tuple[Fraction, int] | None:
        """Return the baseline's accuracy and rows, if it brings these in place of predictions."""

    def genomes(self, ids: pd.Series[str]) -> pd.Series[str] | None:
        """Return the genome of each of some test rows, or None if none is known."""

    def trainings(self) -> Mapping[Side, Mapping[str, Any]]:
        """Return how the heads were trained that the run has."""

    def caveats(self, *sides: Side) -> tuple[str, ...]:
        """Return what must be known before the accuracy of these sides is believed."""

    def taxonomy_steps(self) -> tuple[str, ...]:
        """Return what to add to the taxonomy, if test rows are of no known genome."""

    def timing(self) -> CriterionResult:
        """Return the rounds that were timed, judged."""


class Bench(Protocol):
    """A finished run, and copies of it that faults are planted in."""

    @property
    def run(self) -> Run:
        """The run as it is."""

    def rng(self) -> np.random.Generator:
        """Return a generator that is the same for every fault."""

    def with_scores(self, *, baseline: ArrayLike, candidate: ArrayLike) -> Run:
        """Return a copy whose sides bring files of such scores of the first test rows."""

    def with_shuffled_features(self) -> Run:
        """Return a copy whose candidate sees other rows' features."""

    def with_candidate_vectors(self, kind: Stand) -> Run:
        """Return a copy whose candidate's head is trained on vectors that tell it nothing."""

    def with_split(self, split: Split) -> Run:
        """Return a copy that has drawn another split."""

    def with_other_weights(self) -> Run:
        """Return a copy whose candidate's embeddings are given to other weights."""

    def with_same_model(self) -> Run:
        """Return a copy in which the baseline was timed against itself."""

    def with_seconds(self, *, baseline: float, candidate: float) -> Run:
        """Return a copy in which each round of a side took so many seconds."""

    def with_answers(self, **answers: Any) -> Run:
        """Return the run, but for some methods, by name, that return something else."""


def _by_state_alone(bench: Bench, result: CriterionResult) -> bool:  # noqa: ARG001 - a confirm
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One known fault, and how the gate must take it.

    Attributes
    ----------
    name : str
        What is wrong.
    expected : frozenset of State
        How the criterion must come out.
    plant : callable
        Plants it in a copy of a finished run.
    confirm : callable
        Whether the result also says what it must say.
    """

    name: str
    expected: frozenset[State]
    plant: Callable[[Bench], Run]
    confirm: Callable[[Bench, CriterionResult], bool] = _by_state_alone


def load_criteria(entries: Iterable[EntryPoint], *, beside: Sequence[Criterion]) -> list[Criterion]:
    """Return the criteria that other packages add.

    Parameters
    ----------
    entries : iterable of EntryPoint
        Each names a ``Criterion``.
    beside : sequence of Criterion
        What there is already; no other may have its ids.

    Raises
    ------
    ConfigError
        If one cannot be loaded, is no criterion, or has the id of another.
    """
    added: list[Criterion] = []
    for entry in entries:
        if problem := next(_problems(entry, [*beside, *added]), None):
            raise ConfigError(
                f"the criterion {entry.name!r} ({entry.value}) {problem}. Mend the package that "
                "adds it, or uninstall it"
            )
        added.append(entry.load())
    return added


def _problems(entry: EntryPoint, known: Sequence[Criterion]) -> Iterator[str]:
    try:
        criterion = entry.load()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is named
        yield f"cannot be loaded: {error!r}"
        return
    if not isinstance(criterion, Criterion):
        yield f"is {criterion!r}; expected a harness.criteria.Criterion"
    elif criterion.id in {other.id for other in known}:
        yield f"has the id {criterion.id!r}, which is taken"
