"""Loading foreign ``.pt`` and ``.pth`` files without running anything that they hold.

A pickle can call any function that it names. PyTorch's restricted unpickler builds tensors and
plain values only; this module gives it a list of further classes, and turns a refusal into an
error that names the file and the class. A file that names nothing at all needs less care and is
read faster. What the values mean is the readers' business.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.data.inputs import named_errors
from harness.errors import DataError, MissingInput

__all__ = [
    "load_restricted",
    "refuse_lfs_pointer",
]


_ZIP_MAGIC = b"PK\x03\x04"
_POINTER = b"version https://git-lfs.github.com/spec/"  # how a Git LFS pointer begins
_SCANNED_BYTES = 1 << 24
# Names that stand in every file with tensors.
_HARMLESS = re.compile(r"torch\._utils\._rebuild\w+|torch\.\w+Storage|collections\.OrderedDict")


def load_restricted(
    path: Path,
    *,
    allowed: Mapping[str, Callable[..., object]] | None = None,
    is_mapped: bool = False,
) -> object:
    """Load a file that ``torch.save`` wrote, on the CPU, running none of its code.

    Parameters
    ----------
    path : Path
        A file in PyTorch's zip format or the older one.
    allowed : mapping of str to class, optional
        Classes that the file may name, besides tensors and plain values: the full name as it
        stands in the file, such as ``__main__.MLPClassifier``, and the class to build for it.
    is_mapped : bool
        Read tensors from the file only when they are used. The older format cannot do so and is
        read whole.

    Returns
    -------
    object
        Tensors, numbers, text, lists, tuples, dicts, sets, and instances of ``allowed``.

    Raises
    ------
    MissingInput
        If the file is not there, or only Git LFS's pointer to it.
    DataError
        If it cannot be read, is damaged, or names a class that is not allowed.
    """
    import torch

    refuse_lfs_pointer(path)
    with named_errors(path), path.open("rb") as file:
        is_zip = file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
    if is_zip and (plain := _load_plain(path)) is not None:
        return plain[0]
    extra: list[Any] = [(built, name) for name, built in (allowed or {}).items()]
    extra.append(torch.torch_version.TorchVersion)  # text: torch.__version__, kept as metadata
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(extra):
            # About the pickle protocol: what the unpickler does not know, it refuses anyway.
            warnings.simplefilter("ignore")
            loaded: object = torch.load(
                path, map_location="cpu", weights_only=True, mmap=is_mapped and is_zip
            )
    except Exception as error:  # a damaged file makes torch raise nearly any type
        raise DataError(_explain(path, error, known=frozenset(allowed or {}))) from error
    return loaded


def refuse_lfs_pointer(path: Path) -> None:
    """Raise MissingInput if a file is the text that Git LFS keeps in place of a large file.

    A clone without git-lfs leaves such texts where weights, heads and embeddings should be.
    """
    with named_errors(path), path.open("rb") as file:
        is_pointer = file.read(len(_POINTER)) == _POINTER
    if is_pointer:
        raise MissingInput(
            f"{path} is a Git LFS pointer, not the file itself",
            remedy=f"Run `git lfs pull` in {path.parent}, or download the file",
        )


class _PlainUnpickler(pickle.Unpickler):
    """Python's unpickler without any names, so that it can build plain values and nothing else."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"{module_name}.{global_name}")


def _load_plain(path: Path) -> tuple[object] | None:
    """Return a file's content, in a tuple, if it is numbers, text, lists and dicts alone.

    The unpickler here is the interpreter's own, in C; torch's is written in Python, and takes ten
    times as long for millions of numbers in lists.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_pickle_name(archive)) as member:
            return (_PlainUnpickler(member).load(),)
    except Exception:  # noqa: BLE001 - torch's unpickler takes it, or says what is wrong with it
        return None


def _explain(path: Path, error: Exception, *, known: frozenset[str]) -> str:
    refused = _refused_names(path, error, known)
    if refused:
        return (
            f"{path}: refused, because it names {', '.join(refused)}. Nothing of it was run. "
            "Expected only tensors and plain values: save a state_dict, or lists and dicts"
        )
    said = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
    return (
        f"{path}: not a file of tensors and plain values that torch.save wrote, or damaged "
        f"({type(error).__name__}: {said[:200]}). Write it again with torch.save"
    )


def _refused_names(path: Path, error: Exception, known: frozenset[str]) -> list[str]:
    named = re.search(r"GLOBAL (\S+)", str(error))
    if named is not None:
        return [repr(named[1])]
    try:
        found = dict.fromkeys(_named_in(_pickle_bytes(path)))
    except Exception:  # noqa: BLE001 - a damaged archive; only the message is at stake
        return []
    return [repr(name) for name in found if name not in known and not _HARMLESS.fullmatch(name)][:5]


def _pickle_bytes(path: Path) -> bytes:
    """Return what the file holds of pickles, at most its first 16 MiB."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return file.read(_SCANNED_BYTES)
    with zipfile.ZipFile(path) as archive, archive.open(_pickle_name(archive)) as member:
        return member.read(_SCANNED_BYTES)


def _pickle_name(archive: zipfile.ZipFile) -> str:
    return next(name for name in archive.namelist() if name.endswith("data.pkl"))


def _named_in(content: bytes) -> Iterator[str]:
    """Yield the functions and classes that a row of pickles names, without loading them."""
    stream = io.BytesIO(content)
    try:
        while stream.tell() < len(content):
            yield from _named_in_one(pickletools.genops(stream))
    except ValueError:  # the rest is no pickle
        return


def _named_in_one(
    operations: Iterable[tuple[pickletools.OpcodeInfo, Any, int | None]],
) -> Iterator[str]:
    """Follow the text on the stack only: STACK_GLOBAL takes a module and a name from there."""
    texts: list[object] = []
    memo: dict[int, object] = {}
    top: object = None
    for operation, argument, _ in operations:
        if operation.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif operation.name == "STACK_GLOBAL":
            yield ".".join(map(str, texts[-2:]))
        elif operation.name == "MEMOIZE":
            memo[len(memo)] = top
            continue
        top = memo.get(argument) if operation.name in ("BINGET", "LONG_BINGET") else argument
        if isinstance(top, str):
            texts.append(top)
