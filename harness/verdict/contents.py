"""What a verdict holds: ``verdict.json``, checked against its schema and read into typed values.

Whoever reads a verdict takes these values, and trusts them. Evidence, environment and other parts
that differ from run to run stay JSON, as the schema bounds it. How a verdict comes about, is
written and is read back is :mod:`harness.verdict.verdict`'s matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import jsonschema

from harness.criteria.result import State
from harness.documents import read_json
from harness.errors import ArtifactError

__all__ = [
    "SIDES",
    "ArtifactEntry",
    "CriterionRow",
    "Difference",
    "Epoch",
    "Extraction",
    "Group",
    "Interval",
    "Json",
    "PastVerdict",
    "SeedResult",
    "SideOutcome",
    "Split",
    "Stage",
    "Timing",
    "Verdict",
    "build",
    "find_fault",
    "parse_verdict",
]

SCHEMA_PATH = Path(__file__).with_name("verdict.schema.json")
SIDES = ("baseline", "candidate")

Json = Mapping[str, Any]
Interval = tuple[float, float]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionRow:
    """One criterion as it was judged; numbers are decimal text, as they are to be read."""

    id: str
    state: State
    value: str | None
    numerator: int | None
    denominator: int | None
    limit: str | None
    unit: str
    interval: tuple[str, str] | None
    detail: str
    next_steps: tuple[str, ...]
    test: str | None
    warnings: tuple[str, ...] = ()
    reservations: tuple[str, ...] = ()
    evidence: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SideOutcome:
    """One side's model, and how it did on the test set; metrics are shares of 1 where they are."""

    name: str = ""
    model: str | None = None
    token_budget: int | None = None
    n_out_of_memory: int | None = None
    is_random: bool = False
    model_sha256: str | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    undefined: Mapping[str, str] = field(default_factory=dict)
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)
    confusion_matrix: tuple[tuple[int, int], tuple[int, int]] | None = None
    content: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A metric of the candidate minus the baseline's."""

    value: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The accuracies in one group of test rows."""

    group: str
    n: int
    drop_points: float
    n_genomes: int | None = None
    baseline_accuracy: float | None = None
    candidate_accuracy: float | None = None
    interval: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PastVerdict:
    """A verdict that was given before, as the history of its test set keeps it.

    Attributes
    ----------
    finished : str
        When the run ended, as ISO 8601 in UTC.
    verdict : str
        ``PASS`` or ``HALT``.
    profile : str
        ``tiny`` or ``production``.
    rehearsal : bool
        Whether the run could authorise nothing.
    candidate : str
        The candidate's name.
    model_sha256, checkpoint_sha256 : str or None
        Digests of the candidate's embedder weights and of its head.
    test_sha256 : str
        Digest of the test set's ids.
    drop_points, upper_bound_points : float or None
        The accuracy drop, judged or only shown, and the 95% bound on it, in percentage points;
        None if it is not known.
    time_ratio : float or None
        The candidate's embedding time over the baseline's; None if not judged.
    looks : int
        How often something new was seen of the candidate's accuracy on this test set, by this run
        included.
    digest : str
        The ``digest`` of the run's ``verdict.json``.
    """

    finished: str
    verdict: str
    profile: str
    rehearsal: bool
    candidate: str
    model_sha256: str | None
    checkpoint_sha256: str | None
    test_sha256: str
    drop_points: float | None
    upper_bound_points: float | None
    time_ratio: float | None
    looks: int
    digest: str

    @property
    def look(self) -> tuple[str | None, str | None, float, float | None] | None:
        """What the run learned: embedder, head, drop and bound; None if nothing."""
        if self.drop_points is None:
            return None
        judged = (self.model_sha256, self.checkpoint_sha256)
        return (*judged, self.drop_points, self.upper_bound_points)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The parts of the data, and what the history of the test set says."""

    n_train: int | None = None
    n_validation: int | None = None
    n_test: int | None = None
    test_viral: int | None = None
    test_nonviral: int | None = None
    ids_sha256: Mapping[str, str] = field(default_factory=dict)
    directory: str | None = None
    looks: int | None = None
    earlier_verdicts: tuple[PastVerdict, ...] = ()
    history_lost: int = 0
    history_warning: str = ""
    content: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One epoch of a head's training."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float | None = None
    learning_rate: float | None = None
    elapsed_seconds: float | None = None
    rows_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedResult:
    """What one seed's head reached on the validation part."""

    seed: int
    epochs_run: int
    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadTraining:
    """How one side's head was trained; the first of its heads is the one that ships."""

    history: tuple[Epoch, ...] = ()
    heads: tuple[SeedResult, ...] = ()
    recipe: Json = field(default_factory=dict)
    content: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The measurement that counts, and every attempt at it."""

    baseline_seconds: tuple[float, ...] = ()
    candidate_seconds: tuple[float, ...] = ()
    closing_baseline_seconds: tuple[float, ...] = ()
    attempts: tuple[Json, ...] = ()
    n_sequences: int | None = None
    repeats: int = 1
    token_budget: Mapping[str, int | None] = field(default_factory=dict)
    n_out_of_memory: Mapping[str, int] = field(default_factory=dict)
    content: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """How long one stage took."""

    name: str
    elapsed_seconds: float
    is_reused: bool
    gpu_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """How a store of embeddings was made, by the call that finished it."""

    n_sequences: int
    elapsed_seconds: float
    n_processes: int
    n_rows: int | None = None
    n_tokens: int = 0
    flop: float = 0
    peak_flops: float | None = None
    gpu_memory_bytes: int | None = None
    n_out_of_memory: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactEntry:
    """A file or folder of the run, by its digest."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """The latest self-test of the gate with the run's configuration."""

    passed: int
    failed: int
    total: int
    finished: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A verdict that its schema allows; a part that the run did not reach is empty or None.

    ``content`` is the whole of it as JSON, without the file's digest.
    """

    verdict: str
    rehearsal: bool
    profile: str
    started: str
    halted_by: tuple[str, ...]
    criteria: tuple[CriterionRow, ...]
    rehearsal_reasons: tuple[str, ...] = ()
    reservations: tuple[str, ...] = ()
    looser_than_deployment: tuple[str, ...] = ()
    finished: str | None = None
    command: str = ""
    baseline: SideOutcome = SideOutcome()
    candidate: SideOutcome = SideOutcome()
    differences: Mapping[str, Difference] = field(default_factory=dict)
    breakdowns: Mapping[str, tuple[Group, ...]] = field(default_factory=dict)
    data: Json = field(default_factory=dict)
    split: Split = Split()
    training: Mapping[str, HeadTraining] = field(default_factory=dict)
    timing: Timing = Timing()
    extraction: Mapping[str, Extraction] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    peak_memory_bytes: int | None = None
    artifacts: Mapping[str, ArtifactEntry] = field(default_factory=dict)
    selftest: SelfTest | None = None
    environment: Json = field(default_factory=dict)
    content: Json = field(default_factory=dict)

    @property
    def sides(self) -> dict[str, SideOutcome]:
        """Baseline and candidate by name."""
        return {"baseline": self.baseline, "candidate": self.candidate}

    @property
    def rows(self) -> dict[str, CriterionRow]:
        """The criteria by id."""
        return {row.id: row for row in self.criteria}

    def evidence(self, criterion: str) -> Json:
        """Return what stands behind a criterion; empty if it was not judged."""
        return self.rows[criterion].evidence if criterion in self.rows else {}


def parse_verdict(content: Json, *, origin: str) -> Verdict:
    """Check a verdict against the schema and read it.

    Parameters
    ----------
    content : mapping
        JSON values, without the file's digest.
    origin : str
        Where they come from, for the message.

    Raises
    ------
    ArtifactError
        If the schema does not allow it; names the origin and the place in it.
    """
    if fault := find_fault(content):
        raise ArtifactError(f"{origin}: not a verdict: {fault}")
    return build(Verdict, content)


def find_fault(value: object, part: str = "") -> str:
    """Return where and how a verdict breaks the schema; empty if it does not.

    Parameters
    ----------
    value : JSON value
        A verdict, or a part of one.
    part : str
        ``facts`` for some keys of a verdict, or the name of a definition in the schema.
    """
    error = jsonschema.exceptions.best_match(_validator(part).iter_errors(value))
    return "" if error is None else f"{error.json_path}: {error.message}"


def build(kind: type[T], value: object) -> T:
    """Return JSON that the schema allows as a typed value."""
    built: T = _build(kind, value)
    return built


def _build(kind: Any, value: Any) -> Any:
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        known = {name: _build(hints[name], value[name]) for name in hints.keys() & value.keys()}
        return kind(**known | ({"content": value} if "content" in hints else {}))
    if value is None or kind is Any:
        return value
    inner = get_args(kind)
    if get_origin(kind) is UnionType:
        return _build(inner[0], value)  # X | None
    if get_origin(kind) is tuple:
        return tuple(_build(inner[0], item) for item in value)
    if inner:
        return {key: _build(inner[1], item) for key, item in value.items()}
    return State(value) if kind is State else value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


@cache
def _validator(part: str) -> jsonschema.Draft202012Validator:
    schema = read_json(SCHEMA_PATH)
    if part == "facts":
        schema["required"] = []
    elif part:
        schema = {"$defs": schema["$defs"], "$ref": f"#/$defs/{part}"}
    return jsonschema.Draft202012Validator(schema)
