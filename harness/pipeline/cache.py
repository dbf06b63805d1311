"""How stages are run: each once, its artifact obtained from the work directory, its time logged.

What a stage makes stays with the object whose method it is; this module knows no stage by name.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from harness import __version__
from harness.artifacts import Artifact, ArtifactStore, Build
from harness.embedding.devices import Ranks

__all__ = ["Once", "StageCache", "StageLog", "once", "peak_memory_bytes", "take_gpu_peak"]


@dataclass(slots=True, kw_only=True)
class StageTime:
    """One stage's time in this run.

    Attributes
    ----------
    name : str
        The stage, such as ``embed baseline``.
    elapsed_seconds : float
        Wall clock.
    is_reused : bool
        Whether its result was there already.
    gpu_memory_bytes : int or None
        The most that this process's tensors took on one GPU meanwhile; None where it used none.
        Processes that it started, one for each of several GPUs, are not in it.
    """

    name: str
    elapsed_seconds: float = 0.0
    is_reused: bool = False
    gpu_memory_bytes: int | None = None


def take_gpu_peak() -> int | None:
    """Return the most that tensors took on one GPU since the last call; None if it used none."""
    torch = sys.modules.get("torch")  # what was never imported holds nothing
    if torch is None or not torch.cuda.is_initialized():
        return None
    peak_bytes = 0
    for number in range(torch.cuda.device_count()):
        peak_bytes = max(peak_bytes, torch.cuda.max_memory_allocated(number))
        torch.cuda.reset_peak_memory_stats(number)
    return peak_bytes


@dataclass(slots=True)
class StageLog:
    """The stages of one run, in the order they were begun.

    Attributes
    ----------
    clock : callable
        Seconds.
    take_peak : callable
        The most bytes that were taken on a GPU since it was last called.
    """

    clock: Callable[[], float] = time.perf_counter
    take_peak: Callable[[], int | None] = take_gpu_peak
    stages: list[StageTime] = field(default_factory=list)
    _open: list[StageTime] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[StageTime]:
        """Measure one stage; it stays in the log when it fails, and the exception names it."""
        entry = StageTime(name=name)
        self.stages.append(entry)
        self._share_peak()
        self._open.append(entry)
        started = self.clock()
        try:
            yield entry
        except Exception as error:
            if not hasattr(error, "__notes__"):  # the innermost stage is the one that failed
                error.add_note(f"(stage: {name})")
            raise
        finally:
            entry.elapsed_seconds = self.clock() - started
            self._share_peak()
            self._open.pop()

    def to_list(self) -> list[dict[str, Any]]:
        """Return JSON values, one object a stage."""
        return [asdict(entry) for entry in self.stages]

    def _share_peak(self) -> None:
        """Tell all open stages of the peak so far: one within another is part of both."""
        peak = self.take_peak()
        for entry in self._open:
            entry.gpu_memory_bytes = max(peak or 0, entry.gpu_memory_bytes or 0) or None


def peak_memory_bytes() -> int:
    """Return the most memory that this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


P = ParamSpec("P")
T = TypeVar("T")
Owner = TypeVar("Owner")


class Once(Generic[P, T]):
    """A stage that is run when it is first asked for, and then answers with what it made.

    Called with a stage's arguments it returns what was made from them; keywords say how to make it,
    and decide nothing if it is there already.
    """

    def __init__(self, make: Callable[P, T]) -> None:
        self._make = make
        self._made: dict[tuple[object, ...], T] = {}

    def __call__(self, *arguments: P.args, **how: P.kwargs) -> T:
        """Return what the stage makes from these arguments."""
        if arguments not in self._made:
            self._made[arguments] = self._make(*arguments, **how)
        return self._made[arguments]

    def made(self, *arguments: object) -> T | None:
        """Return what this run has made from these arguments so far; makes nothing."""
        return self._made.get(arguments)

    def take(self, value: T, *arguments: object) -> None:
        """Take a value for made, as a copy of a run does with what another run has made."""
        self._made[arguments] = value


def once(method: Callable[Concatenate[Owner, P], T]) -> cached_property[Once[P, T]]:
    """Make a method a stage: each object runs it once for each of its arguments."""

    @wraps(method)
    def bind(owner: Owner) -> Once[P, T]:
        return Once(lambda *arguments, **how: method(owner, *arguments, **how))

    return cached_property(bind)


# Another version of this package may do a stage otherwise, so it does all of them anew; but not the
# embeddings, which take hours and carry the version of what computes them, nor random models.
LASTING = ("embeddings", "models")


class StageCache:
    """The work directory as one run sees it: obtains artifacts, and logs which and for how long.

    Parameters
    ----------
    work_dir : Path
        Where artifacts are kept; several runs may share it.
    ranks : Ranks, optional
        The processes that go through the same stages together. The first holds the locks and makes
        the artifacts; the others are told where they are.

    Attributes
    ----------
    work_dir, ranks
        As given.
    log : StageLog
        How long each stage took.
    obtained : dict of str to Artifact
        What this run has obtained, by the names under which the verdict lists it. Stages do not
        look here for what others made.
    """

    def __init__(self, work_dir: Path, ranks: Ranks | None = None) -> None:
        self.work_dir = work_dir
        self.ranks = ranks or Ranks()
        self.log = StageLog()
        self.obtained: dict[str, Artifact] = {}
        self._store = ArtifactStore(work_dir)

    def obtain(
        self,
        name: str,
        inputs: Mapping[str, Any],
        build: Build,
        *,
        stage: str | None = None,
        kind: str | None = None,
        resumes: bool = False,
        is_shared: bool = False,
    ) -> Artifact:
        """Return an artifact, made or reused.

        Parameters
        ----------
        name : str
            What the verdict calls it.
        inputs, build, resumes
            As for ``ArtifactStore.obtain``.
        stage : str, optional
            Its name in the log, if it is worth one.
        kind : str, optional
            The folder of its kind, if not ``name``.
        is_shared : bool
            Whether all ranks call ``build`` together, rather than the first alone.
        """
        with self.log.stage(stage) if stage else nullcontext(StageTime(name=name)) as entry:
            if self.ranks.is_first:
                artifact = self._make(kind or name, inputs, build, resumes, is_shared)
            else:
                artifact = self._join(build)
            entry.is_reused = artifact.is_reused
        self.obtained[name] = artifact
        return artifact

    def holds(self, kind: str, inputs: Mapping[str, Any]) -> bool:
        """Whether an artifact is there, made from ``inputs``."""
        return self._store.holds(kind, {**inputs, **_version(kind)})

    def find(self, kind: str, is_wanted: Callable[[Mapping[str, Any]], bool]) -> list[Artifact]:
        """Return artifacts of this version that are there, as ``ArtifactStore.find`` does."""
        version = _version(kind).items()
        return self._store.find(kind, lambda made: version <= made.items() and is_wanted(made))

    def _make(
        self,
        kind: str,
        inputs: Mapping[str, Any],
        build: Build,
        resumes: bool,
        is_shared: bool,
    ) -> Artifact:
        """Obtain an artifact as the first rank, which calls the others to a shared build."""

        def build_together(folder: Path) -> Mapping[str, Any] | None:
            if is_shared:
                self.ranks.tell(folder)
            return build(folder)

        made_from = {**inputs, **_version(kind)}
        artifact = self._store.obtain(kind, made_from, build_together, resumes=resumes)
        self.ranks.tell(artifact)
        return artifact

    def _join(self, build: Build) -> Artifact:
        """Do what the first rank calls for, until it says where the artifact is."""
        while isinstance(word := self.ranks.hear(), Path):
            build(word)
        return word


def _version(kind: str) -> dict[str, str]:
    """Return what the inputs of a kind say of the code that it is made by."""
    return {} if kind in LASTING else {"harness": __version__}
