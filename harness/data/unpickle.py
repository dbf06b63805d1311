"""Loading foreign ``.pt`` and ``.pth`` files without running anything that they hold.

A pickle can call any function that it names. PyTorch's restricted unpickler builds tensors and
plain values only; this module gives it a list of further classes, and turns a refusal into an
error that names the file and the class. A file that names nothing at all needs less care and is
read faster. What the values mean is the readers' business.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.data.inputs import open_regular
from harness.errors import DataError, MissingInput

_EXPECTED = "Expected only tensors and plain values: save a state_dict, or lists and dicts"

__all__ = [
    "load_restricted",
    "refuse_lfs_pointer",
]


_ZIP_MAGIC = b"PK\x03\x04"
_POINTER = b"version https://git-lfs.github.com/spec/"  # how a Git LFS pointer begins
_SCANNED_BYTES = 1 << 24
# What torch allows and makes much of little: zeros, as many as a number says, and tuples within
# tuples, whose hash overflows the stack.
_DANGEROUS = re.compile(
    rb"c(?:__builtin__|builtins)\nbytearray\n|(?:\x85(?:q.|r.{4}|\x94)?){100}", re.DOTALL
)
# What pickles of plain values consist of, apart from text and long integers: codes with their
# arguments, whose lengths are fixed.
_PLAIN_CODES = re.compile(
    rb"(?:[(.0N)\]}adelsu\x88\x89\x94]|[Kqh\x80].|M..|[Jj].{4}|[G\x95].{8})++", re.DOTALL
)
_LENGTH_BYTES = {ord("X"): 4, 0x8C: 1, 0x8A: 1}  # text, short text, long integer
_LONG_BINPUT = ord("r")
_TUPLES, MOST_TUPLES = b"t\x85\x86\x87", 100  # nested ones have a hash that overflows the stack
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
    with open_regular(path) as file:
        is_zip = file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
    pickled = _read_checked(path) if is_zip else None
    if pickled is not None and (plain := _load_plain(pickled)) is not None:
        return plain[0]
    if _is_dangerous(path, pickled):
        raise DataError(f"{path}: refused, because it takes more memory than it has. {_EXPECTED}")
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
    _check_tensors(path, loaded)
    return loaded


def _read_checked(path: Path) -> bytes | None:
    """Return the pickle of an archive whose members take no more than it has; None if damaged."""
    n_bytes = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any(one.compress_type != zipfile.ZIP_STORED for one in members) or n_bytes < sum(
                one.file_size for one in members
            ):
                raise DataError(
                    f"{path}: its members are compressed or overlap; torch.save writes them as "
                    "they are. Write it again with torch.save"
                )
            return archive.read(_pickle_name(archive))
    except (OSError, ValueError, NotImplementedError, RuntimeError, StopIteration):
        return None  # torch says what is wrong with it
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError):
        return None


def _is_dangerous(path: Path, pickled: bytes | None) -> bool:
    if pickled is not None:
        return _DANGEROUS.search(pickled) is not None
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _DANGEROUS.search(content) is not None


def _check_tensors(path: Path, loaded: object) -> None:
    """Refuse tensors that are larger than what the file holds of them, or hold no plain numbers."""
    waiting, seen = [loaded], set[int]()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if hasattr(value, "untyped_storage"):
            _check_tensor(path, value)
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple | set):
            waiting += value
        elif hasattr(value, "__dict__"):
            waiting += vars(value).values()


def _check_tensor(path: Path, tensor: Any) -> None:
    import torch

    kinds = (torch.Tensor, torch.nn.Parameter)
    is_strided = tensor.layout is torch.strided and tensor.device.type == "cpu"
    if not is_strided or tensor.is_quantized or type(tensor) not in kinds:
        raise DataError(f"{path}: holds a tensor that is not of plain numbers. {_EXPECTED}")
    n_bytes = tensor.untyped_storage().nbytes()
    if tensor.numel() * tensor.element_size() > n_bytes:
        raise DataError(
            f"{path}: a tensor of shape {tuple(tensor.shape)} has {n_bytes:,} bytes in the file. "
            "Save it with .contiguous()"
        )


def refuse_lfs_pointer(path: Path) -> None:
    """Raise MissingInput if a file is the text that Git LFS keeps in place of a large file.

    A clone without git-lfs leaves such texts where weights, heads and embeddings should be.
    """
    with open_regular(path) as file:
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


def _load_plain(pickled: bytes) -> tuple[object] | None:
    """Return what a pickle holds, in a tuple, if it is numbers, text, lists and dicts alone.

    The unpickler here is the interpreter's own, in C; torch's is written in Python, and takes ten
    times as long for millions of numbers in lists.
    """
    if not _is_plain(pickled):
        return None
    try:
        return (_PlainUnpickler(io.BytesIO(pickled)).load(),)
    except Exception:  # noqa: BLE001 - torch's unpickler takes it, or says what is wrong with it
        return None


def _is_plain(pickled: bytes) -> bool:
    """Whether a pickle has plain codes alone, and a memo no longer than itself.

    The interpreter makes room for as many objects as the largest number that is given to one.
    """
    place, end, n_tuples = 0, len(pickled), 0
    while place < end:
        if run := _PLAIN_CODES.match(pickled, place):
            place = run.end()
            continue
        code, start = pickled[place], place + 1
        if code == _LONG_BINPUT:
            if int.from_bytes(pickled[start : start + 4], "little") > end:
                return False
            place = start + 4
        elif code in _TUPLES and n_tuples < MOST_TUPLES:
            place, n_tuples = start, n_tuples + 1
        elif code in _LENGTH_BYTES:
            place = start + _LENGTH_BYTES[code]
            place += int.from_bytes(pickled[start:place], "little")
        else:
            return False
    return True


def _explain(path: Path, error: Exception, *, known: frozenset[str]) -> str:
    refused = _refused_names(path, error, known)
    if refused:
        return (
            f"{path}: refused, because it names {', '.join(refused)}. Nothing of it was run. "
            f"{_EXPECTED}"
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
