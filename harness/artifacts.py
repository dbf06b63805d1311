"""Immutable artifacts: digests, manifests, atomic writes, locks.

An artifact is a folder named by the digest of what it was made from. It is built beside its final
place and renamed, never changed afterwards, and used again only if its manifest and its files are
still what they were.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from filelock import FileLock, Timeout

from harness.documents import read_json
from harness.errors import ArtifactError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CARD",
    "Artifact",
    "ArtifactStore",
    "Build",
    "digest_columns",
    "digest_file",
    "digest_json",
    "explain_full_disk",
    "remove",
    "require_unchanged",
    "write_atomically",
]

MANIFEST = "manifest.json"
CARD = "README.md"  # the model card beside a head, where Hugging Face looks for one
ROWS_AT_A_TIME = 65_536

# What the system says where there is no room: on the disk, in the quota, or under a size limit.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SAID_FULL = re.compile(rf"os error ({'|'.join(map(str, _FULL))})\b")  # by libraries in Rust

_log = logging.getLogger(__name__)

# Fills a folder, and returns what is to be noted of how it did so, if anything.
Build: TypeAlias = Callable[[Path], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One finished artifact.

    Attributes
    ----------
    kind : str
        The stage that made it, such as ``split``.
    path : Path
        Its folder.
    sha256 : str
        Digest of its files' digests: what later stages name as their input.
    files : mapping of str to str
        The sha256 of each file, by its path in the folder, as it was written.
    is_reused : bool
        Whether it was there already.
    notes : mapping of JSON values
        What is known of how it was made, such as its pace. No part of the digest.
    """

    kind: str
    path: Path
    sha256: str
    is_reused: bool
    files: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def file(self, name: str) -> Path:
        """Return where one of its files lies; ArtifactError if its manifest lists none so named."""
        if name not in self.files:
            listed = ", ".join(self.files)
            raise ArtifactError(f"{self.path}: lists no {name}, but {listed}. {_remedy(self.path)}")
        return self.path / name


class ArtifactStore:
    """The cached artifacts under one work directory; several processes may share it.

    Parameters
    ----------
    root : Path
        The work directory; created when first needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def obtain(
        self,
        kind: str,
        inputs: Mapping[str, Any],
        build: Build,
        *,
        resumes: bool = False,
    ) -> Artifact:
        """Return the artifact made from ``inputs``; build it if it is not there.

        Parameters
        ----------
        kind : str
            The stage's name, a folder under the work directory.
        inputs : mapping of JSON values
            Everything the result depends on: digests of earlier artifacts and settings.
        build : callable
            Fills the folder it is given, and may return notes. If it raises, nothing is kept.
        resumes : bool
            Whether ``build`` goes on from what an interrupted call left in the folder, and makes
            single files anew that were deleted from a finished artifact.

        Raises
        ------
        ArtifactError
            If the stored artifact is damaged, or the disk is full.
        """
        target = self._target(kind, inputs)
        with explain_full_disk(target.parent):
            return self._obtain(kind, target, inputs, build, resumes=resumes)

    def _obtain(
        self, kind: str, target: Path, inputs: Mapping[str, Any], build: Build, *, resumes: bool
    ) -> Artifact:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            partial = target.with_suffix(".partial")
            if resumes and _lacks_files(target):
                remove(partial)
                target.rename(partial)
            if target.exists():
                return _reopen(kind, target, inputs, resumes=resumes)
            if not (resumes and partial.is_dir()):
                remove(partial)
            partial.mkdir(exist_ok=True)
            (partial / MANIFEST).unlink(missing_ok=True)
            notes = build(partial) or {}
            files = _write_manifest(kind, partial, inputs, notes)
            partial.rename(target)
        return _artifact(kind, target, files, notes, is_reused=False)

    def holds(self, kind: str, inputs: Mapping[str, Any]) -> bool:
        """Whether there is an artifact made from ``inputs``; ``obtain`` would reuse it."""
        return self._target(kind, inputs).exists()

    def _target(self, kind: str, inputs: Mapping[str, Any]) -> Path:
        return self.root / kind / digest_json({"kind": kind, "inputs": inputs})[:16]

    def find(self, kind: str, is_wanted: Callable[[Mapping[str, Any]], bool]) -> list[Artifact]:
        """Return the finished artifacts of a kind whose inputs are wanted; builds nothing.

        Raises
        ------
        ArtifactError
            If one of them is damaged.
        """
        manifests = sorted((self.root / kind).glob(f"*/{MANIFEST}"))
        finished = [path.parent for path in manifests if _NAME.fullmatch(path.parent.name)]
        made_from = {folder: _read_manifest(folder)["inputs"] for folder in finished}
        return [
            _reopen(kind, folder, inputs)
            for folder, inputs in made_from.items()
            if is_wanted(inputs)
        ]


_NAME = re.compile(r"[0-9a-f]{16}")  # of an artifact's folder; others are no artifacts


def digest_json(value: Any) -> str:
    """Return the sha256 (hex) of a JSON value in its canonical form: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_columns(*columns: pd.Series[Any]) -> str:
    """Return the sha256 (hex) of columns of JSON values, in their order, some rows at a time."""
    digest = hashlib.sha256()
    for column in columns:
        for start in range(0, len(column), ROWS_AT_A_TIME):
            part = column.iloc[start : start + ROWS_AT_A_TIME]
            digest.update(digest_json(part.tolist()).encode())
    return digest.hexdigest()


def digest_file(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_unchanged(path: Path, sha256: str) -> None:
    """Raise ArtifactError unless a file is still the one that had this sha256 (hex)."""
    if digest_file(path) != sha256:
        raise ArtifactError(f"{path}: was changed while this run used it. Run again")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Parameters
    ----------
    path : Path
        The file; its folder is created if needed.
    content : str or bytes
        Text is written as UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def explain_full_disk(folder: Path, needed_bytes: int | None = None) -> Iterator[None]:
    """Say where there is no room, and how much is needed, in place of what a library says.

    Parameters
    ----------
    folder : Path
        Where is written to.
    needed_bytes : int, optional
        What is still to be written, if that is known.

    Raises
    ------
    ArtifactError
        If the disk, the quota or a limit of file sizes is full.
    """
    try:
        yield
    except ArtifactError:
        raise
    except Exception as error:
        if getattr(error, "errno", None) not in _FULL and not _SAID_FULL.search(str(error)):
            raise
        there = next(place for place in (folder, *folder.parents) if place.exists())
        free = f"{shutil.disk_usage(there).free / 1e6:,.0f} MB are free"
        needed = f", {needed_bytes / 1e6:,.0f} MB more are needed" if needed_bytes else ""
        raise ArtifactError(
            f"{folder}: cannot be written to ({getattr(error, 'strerror', None) or error}): {free}"
            f"{needed}. What was saved before is kept. Free some space, and run again"
        ) from error


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Keep other runs from an artifact; wait, and say so, while one of them makes it."""
    lock = FileLock(target.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log.warning("%s: another run is making it; waiting until it is done", target)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _write_manifest(
    kind: str, folder: Path, inputs: Mapping[str, Any], notes: Mapping[str, Any]
) -> dict[str, str]:
    files = {path.relative_to(folder).as_posix(): digest_file(path) for path in _files(folder)}
    manifest = {
        "kind": kind,
        "inputs": dict(inputs),
        "files": files,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "notes": dict(notes),
    }
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))
    return files


def _files(folder: Path) -> list[Path]:
    """Return what an artifact holds, without manifest, model card and what programs hide there."""
    files = (path for path in sorted(folder.rglob("[!.]*")) if path.is_file())
    return [path for path in files if path not in (folder / MANIFEST, folder / CARD)]


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in _files(folder)}


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = read_json(folder / MANIFEST)
        found = {key: manifest[key] for key in ("inputs", "files")}
        found["notes"] = manifest.get("notes", {})
        if not all(isinstance(value, dict) for value in found.values()):
            raise ValueError("inputs, files and notes must be objects")
        if not found["files"]:
            raise ValueError("it lists no files")
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{folder}: no readable manifest ({error}). {_remedy(folder)}"
        ) from error


def _lacks_files(folder: Path) -> bool:
    return folder.exists() and not _read_manifest(folder)["files"].keys() <= _names(folder)


def _reopen(
    kind: str, folder: Path, inputs: Mapping[str, Any], *, resumes: bool = False
) -> Artifact:
    manifest = _read_manifest(folder)
    if digest_json(manifest["inputs"]) != digest_json(dict(inputs)):
        raise ArtifactError(f"{folder}: was made from other inputs. {_remedy(folder)}")
    there = _names(folder)
    if unlisted := sorted(there - manifest["files"].keys()):
        raise ArtifactError(
            f"{folder / unlisted[0]}: stands in an artifact whose manifest does not list it. "
            f"Move it elsewhere; if it is part of the artifact, delete {folder} and run again"
        )
    for name, expected in manifest["files"].items():
        path = folder / name
        if name not in there or digest_file(path) != expected:
            remedy = _remedy(path if resumes else folder)
            raise ArtifactError(f"{path}: is not the file that was written. {remedy}")
    return _artifact(kind, folder, manifest["files"], manifest["notes"], is_reused=True)


def _artifact(
    kind: str,
    path: Path,
    files: Mapping[str, str],
    notes: Mapping[str, Any],
    *,
    is_reused: bool,
) -> Artifact:
    return Artifact(
        kind=kind,
        path=path,
        sha256=digest_json(files),
        is_reused=is_reused,
        files=files,
        notes=notes,
    )


def _remedy(path: Path) -> str:
    return f"Delete {path} and run again to rebuild it"
