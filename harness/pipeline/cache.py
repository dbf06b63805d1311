"""What a run has made so far: each artifact obtained once and logged, each table loaded once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from harness import __version__
from harness.artifacts import Artifact, ArtifactStore, Build
from harness.embedding.ranks import Ranks
from harness.pipeline.log import StageLog

__all__ = ["StageCache"]

T = TypeVar("T")

# Another version of this package may do a stage otherwise, so it does all of them anew; but not the
# embeddings, which take hours and carry the version of what computes them, nor random models.
LASTING = ("embeddings", "models")


class StageCache:
    """The artifacts and tables of one run.

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
    artifacts : dict of str to Artifact
        What this run has obtained, by name.
    log : StageLog
        How long each took.
    """

    def __init__(self, work_dir: Path, ranks: Ranks | None = None) -> None:
        self.work_dir = work_dir
        self.ranks = ranks or Ranks()
        self.artifacts: dict[str, Artifact] = {}
        self.log = StageLog()
        self._store = ArtifactStore(work_dir)
        self._made: dict[str, Any] = {}

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
        """Return an artifact, made or reused once a run.

        Parameters
        ----------
        name : str
            Its name in ``artifacts``.
        inputs, build, resumes
            As for ``ArtifactStore.obtain``.
        stage : str, optional
            Its name in the log, if it is worth one.
        kind : str, optional
            The folder of its kind, if not ``name``.
        is_shared : bool
            Whether all ranks call ``build`` together, rather than the first alone.
        """

        def make() -> Artifact:
            if self.ranks.is_first:
                return self._make(kind or name, inputs, build, resumes, is_shared)
            return self._join(build)

        if name not in self.artifacts:
            if stage is None:
                artifact = make()
            else:
                with self.log.stage(stage) as entry:
                    artifact = make()
                    entry.is_reused = artifact.is_reused
            self.artifacts[name] = artifact
        return self.artifacts[name]

    def holds(self, kind: str, inputs: Mapping[str, Any]) -> bool:
        """Whether an artifact is there, made from ``inputs``."""
        return self._store.holds(kind, {**inputs, **_version(kind)})

    def find(self, kind: str, is_wanted: Callable[[Mapping[str, Any]], bool]) -> list[Artifact]:
        """Return artifacts of this version that are there, as ``ArtifactStore.find`` does."""
        version = _version(kind).items()
        return self._store.find(kind, lambda made: version <= made.items() and is_wanted(made))

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Return what ``make`` returns, calling it once a run."""
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]
        return made

    def made(self, name: str) -> Any:
        """Return what ``once`` has made under this name, or None."""
        return self._made.get(name)

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
