"""What an entry of ``[data]`` stands for: FASTA pairs, genomes, record tables, or folders of those.

Told by names alone. How the files are read is the readers' business.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.data.fasta import find_pair
from harness.data.genbank import is_named_genbank
from harness.data.inputs import list_files, named_errors
from harness.errors import MissingInput

__all__ = ["TAKEN", "Source", "find_sources", "source_files"]

TAKEN = (
    "FASTA pairs (PREFIX_nucleotide.fa and PREFIX_protein.fa or .faa, or folders of chunks called "
    "so), GenBank files (.gb, .gbk, .gbff, .gbf, .genbank, .seq), FASTA files of genomes (.fna, "
    ".fa, .fasta), all plain or .gz, record tables (.parquet, .csv), and folders and globs of them"
)
_TABLE_ENDINGS = (".parquet", ".csv")
_FASTA = re.compile(r"(?P<stem>.+)\.(fa|faa|fasta|fna)(\.gz)?", re.IGNORECASE)
_GENOME = re.compile(r"(?P<stem>.+)\.(fa|fasta|fna)(\.gz)?", re.IGNORECASE)
_HALF = re.compile(r"(?P<prefix>.+)_(nucleotide|protein)")
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Files that are read as one.

    Attributes
    ----------
    kind : {"pair", "genbank", "genome", "table"}
        A genome is a FASTA file without annotation.
    files : tuple of Path
        Of a pair the nucleotides, then the proteins; of GenBank files any number.
    """

    kind: Literal["pair", "genbank", "genome", "table"]
    files: tuple[Path, ...]

    @property
    def is_whole(self) -> bool:
        """Whether these are genomes, of which any window can be cut."""
        return self.kind in ("genbank", "genome")


def source_files(entry: Path) -> tuple[Path, ...]:
    """Return all files that an entry stands for, as ``find_sources``."""
    return tuple(file for source in find_sources(entry)[0] for file in source.files)


def find_sources(entry: Path) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """Return what an entry stands for.

    Parameters
    ----------
    entry : Path
        A file, a folder, a glob, or what the names of a FASTA pair begin with.

    Returns
    -------
    tuple of (tuple of Source, tuple of str)
        Sorted by path; and lines that name what was passed over.

    Raises
    ------
    MissingInput
        If nothing is there; the message says which names were looked for.
    DataError
        If files cannot be told apart, or a folder cannot be read.
    """
    with named_errors(entry):
        is_folder, is_there = entry.is_dir(), entry.exists()
    if is_folder:
        return _sort_out(entry, list_files(entry))
    if not is_there and glob.has_magic(str(entry)):
        return _sort_out(entry, _matches(entry))
    if entry.suffix in _TABLE_ENDINGS:
        return (Source(kind="table", files=(entry,)),), ()
    if is_there:
        return (_of_file(entry),), ()
    if entry.with_name(f"{entry.name}_nucleotide").is_dir():
        return _sort_out(entry, list_files(entry.with_name(f"{entry.name}_nucleotide")))
    return (_pair(entry),), ()


def _matches(entry: Path) -> list[Path]:
    found = map(Path, sorted(glob.glob(str(entry), recursive=True)))  # noqa: PTH207 - absolute, too
    files = [file for path in found for file in (list_files(path) if path.is_dir() else (path,))]
    return [file for file in dict.fromkeys(files) if not file.name.startswith("._")]


def _of_file(file: Path) -> Source:
    if prefix := _prefix_of(file):
        return _of_prefix(prefix, file)
    return Source(kind="genome" if _GENOME.fullmatch(file.name) else "genbank", files=(file,))


def _pair(prefix: Path) -> Source:
    try:
        return Source(kind="pair", files=find_pair(prefix))
    except MissingInput as error:
        raise MissingInput(error.what, remedy=f"{error.remedy}. Taken are {TAKEN}") from error


def _sort_out(entry: Path, files: Sequence[Path]) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """Say what each of several files is, and name those that are nothing."""
    genbank = tuple(file for file in files if is_named_genbank(file))
    annotated = {_stem(file) for file in genbank}
    pairs: dict[Path, Source] = {}
    others: list[Source] = [Source(kind="genbank", files=genbank)] if genbank else []
    passed_over: list[Path] = []
    for file in files:
        if prefix := _prefix_of(file):
            pairs[prefix] = pairs.get(prefix) or _of_prefix(prefix, file)
        elif file.suffix in _TABLE_ENDINGS:
            others.append(Source(kind="table", files=(file,)))
        elif _GENOME.fullmatch(file.name) and _stem(file) not in annotated:
            others.append(Source(kind="genome", files=(file,)))
        elif not is_named_genbank(file):
            passed_over.append(file)
    chunks = [prefix for prefix in pairs if prefix.parent in pairs]  # of a file that is there whole
    passed_over += [file for prefix in chunks for file in pairs.pop(prefix).files]
    sources = (*pairs.values(), *others)
    if not sources:
        raise MissingInput(f"{entry} holds nothing to read", remedy=f"Taken are {TAKEN}")
    return tuple(sorted(sources, key=lambda source: source.files)), tuple(_named(passed_over))


def _stem(file: Path) -> Path:
    """Return a path without its endings: a genome's sequence and annotation are called alike."""
    name = file.name.lower().removesuffix(".gz")
    return file.with_name(name.rpartition(".")[0])


def _prefix_of(file: Path) -> Path | None:
    """Return what the two files of a pair have in common; of a chunk, its folders' prefix/name."""
    fasta = _FASTA.fullmatch(file.name)
    if fasta is None:
        return None
    if half := _HALF.fullmatch(fasta["stem"]):
        return file.with_name(half["prefix"])
    folder = _HALF.fullmatch(file.parent.name)
    return file.parent.with_name(folder["prefix"]) / fasta["stem"] if folder else None


def _of_prefix(prefix: Path, file: Path) -> Source:
    if prefix.parent == file.parent:
        return _pair(prefix)
    halves = [_chunk(prefix, kind) for kind in ("nucleotide", "protein")]
    return Source(kind="pair", files=tuple(halves))


def _chunk(prefix: Path, kind: str) -> Path:
    folder = prefix.parent.with_name(f"{prefix.parent.name}_{kind}")
    for ending in ("fa", "faa", "fasta", "fna"):
        for packed in ("", ".gz"):
            if (file := folder / f"{prefix.name}.{ending}{packed}").exists():
                return file
    raise MissingInput(
        f"{folder} holds no FASTA file {prefix.name}, the other half of a chunk",
        remedy="Keep the chunks of nucleotides and proteins under the same names",
    )


def _named(files: Iterable[Path]) -> list[str]:
    """Return a line for the files of each ending that are no input."""
    by_ending: dict[str, list[Path]] = {}
    for file in files:
        by_ending.setdefault(file.suffix, []).append(file)
    return [
        "passed over, since nothing that is read is called so: "
        + ", ".join(map(str, same[:_SHOWN]))
        + (f" and {len(same) - _SHOWN} more" if len(same) > _SHOWN else "")
        for same in by_ending.values()
    ]
