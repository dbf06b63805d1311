"""What VirNucPro's users have it judge: the test windows, whole, with every frame without a stop.

Owns where windows are found (GenBank files, genomes in FASTA, VirNucPro's own ``*_chunkedN.fa``),
which of them belong to the test set, and what must be said of them. How a sequence is cut and which
frames are open is decided in ``windows``; what a head makes of them is judged elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from harness.data.fasta import read_fasta
from harness.data.genbank import is_genbank, read_genbank
from harness.data.records import RECORD_COLUMNS
from harness.data.windows import cut_windows, open_frames
from harness.errors import DataError

__all__ = ["TestWindows", "find_test_windows"]

_CHUNK = re.compile(r"(.+)_chunk_(\d{1,9})")  # how VirNucPro names a window
_BASES = frozenset("ACGT")
_NOT_DEPLOYED = "Not judged as deployed: "


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """One window of a sequence, whole, and whether it is the whole sequence."""

    accession: str
    number: int
    nucleotides: str
    is_sequence: bool

    @property
    def name(self) -> str:
        return f"{self.accession}_chunk_{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TestWindows:
    """The open frames of the test windows that are at hand.

    Attributes
    ----------
    frames : DataFrame
        ``RECORD_COLUMNS`` and ``window_id``: one row for each open frame, with the label, lineage,
        kind and genome of the window's test record. Windows without a frame have no row.
    n_windows, n_missing : int
        Windows that hold a test record, and those of them that are not at hand whole.
    n_ambiguous : int
        Windows with letters other than A, C, G and T.
    n_short : int
        Windows that are a whole sequence, shorter than a window.
    n_trained : int
        Windows of which another frame is in the training part.
    """

    __test__ = False  # pytest takes the name for a test's

    frames: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=[*RECORD_COLUMNS, "window_id"], dtype="str")
    )
    n_windows: int = 0
    n_missing: int = 0
    n_ambiguous: int = 0
    n_short: int = 0
    n_trained: int = 0

    def counts(self) -> dict[str, int]:
        """Return what was counted, by the names of the attributes."""
        return {each.name: getattr(self, each.name) for each in fields(self)[1:]}

    def reservations(self) -> tuple[str, ...]:
        """Say what must be known before the judgement by windows is believed."""
        if self.n_missing == self.n_windows:
            return (
                f"{_NOT_DEPLOYED}the test windows are not at hand whole. Name genomes, or "
                "VirNucPro's *_chunkedN.fa, by [data] windows.",
            )
        of_all = f"of {self.n_windows:,} test windows"
        sentences = {
            f"{self.n_missing:,} {of_all} are not at hand whole, so they are left out of the "
            "judgement by windows.": self.n_missing,
            f"{self.n_ambiguous:,} {of_all} hold letters other than A, C, G and T: such codons are "
            "passed over, as VirNucPro's prediction does, so the protein is shorter than its "
            "frame.": self.n_ambiguous,
            f"{self.n_short:,} {of_all} are whole sequences, shorter than a window.": self.n_short,
            f"{self.n_trained:,} {of_all} have another frame in the training part, so the heads "
            "have seen part of them. Draw windows or genomes to keep them apart.": self.n_trained,
        }
        return tuple(sentence for sentence, count in sentences.items() if count)


def find_test_windows(
    records: pd.DataFrame, test_ids: pd.Series[str], sources: Sequence[Path]
) -> TestWindows:
    """Find the windows that hold a test record, and their open frames.

    Parameters
    ----------
    records : DataFrame
        A record table.
    test_ids : Series of str
        The records of the test set.
    sources : sequence of Path
        GenBank files or folders of those, genomes in FASTA (cut as VirNucPro cuts them), or FASTA
        files of windows with ids such as ``NC_029549.1_chunk_3``.

    Raises
    ------
    MissingInput
        If a file is not there.
    DataError
        If it cannot be read, two genomes have one accession, a window holds test records of both
        classes, or a test record is no open frame of its window.
    """
    test = records[records["id"].isin(test_ids)]
    names = test["accession"] + "_chunk_" + test["window"].astype("str")
    by_window = test.assign(window_id=names.where(test["window"] >= 0, test["id"]))
    mixed = by_window.groupby("window_id")["label"].nunique()
    if (mixed > 1).any():
        raise DataError(
            f"{int((mixed > 1).sum()):,} windows hold test records of both classes, such as "
            f"{mixed.idxmax()!r}: two genomes with one accession. Rename one of them"
        )
    found = _collect(sources, set(names[test["window"] >= 0]))
    origins = by_window.drop_duplicates("window_id").set_index("window_id")
    frames = _open_frames(found, origins)
    _check_records(by_window[by_window["window_id"].isin(found)], frames)
    is_trained = frames["id"].isin(records["id"]) & ~frames["id"].isin(test_ids)
    longest = max((len(window.nucleotides) for window in found.values()), default=0)
    return TestWindows(
        frames=frames,
        n_windows=len(origins),
        n_missing=len(origins) - len(found),
        n_ambiguous=sum(not _BASES.issuperset(each.nucleotides) for each in found.values()),
        n_short=sum(x.is_sequence and len(x.nucleotides) < longest for x in found.values()),
        n_trained=frames["window_id"][is_trained].nunique(),
    )


def _collect(sources: Sequence[Path], wanted: set[str]) -> dict[str, _Window]:
    found: dict[str, _Window] = {}
    for path in sources:
        for window in _read_windows(path, wanted):
            known = found.setdefault(window.name, window)
            if known.nucleotides != window.nucleotides:
                raise DataError(
                    f"{path}: {window.name} stands for two different windows, so two genomes have "
                    f"the accession {window.accession!r}, or windows have two sizes. Keep one"
                )
    return found


def _read_windows(path: Path, wanted: set[str]) -> Iterator[_Window]:
    """Yield those of a file's windows that are wanted."""
    if is_genbank(path):
        for entry in read_genbank(path):
            yield from _cut(entry.accession, entry.sequence, wanted)
        return
    table = read_fasta(path)
    if not pc.all(pc.match_substring_regex(table["id"], r"_chunk_\d+$")).as_py():
        for name, sequence in _rows(table):
            yield from _cut(name, sequence, wanted)
        return
    own = set(table["id"].to_pylist())
    for name, sequence in _rows(table.filter(pc.is_in(table["id"], pa.array(sorted(wanted))))):
        accession, number = _parse(path, name)
        is_sequence = number == 1 and f"{accession}_chunk_2" not in own
        yield _Window(
            accession=accession, number=number, nucleotides=sequence, is_sequence=is_sequence
        )


def _rows(table: pa.Table) -> Iterator[tuple[str, str]]:
    for row in range(len(table)):
        yield table["id"][row].as_py(), table["sequence"][row].as_py()


def _parse(path: Path, name: str) -> tuple[str, int]:
    match = _CHUNK.fullmatch(name)
    if match is None:
        raise DataError(f"{path}: {name!r} names no window; expected such as NC_029549.1_chunk_3")
    return match[1], int(match[2])


def _cut(accession: str, sequence: str, wanted: set[str]) -> Iterator[_Window]:
    cut = list(cut_windows(sequence.upper()))
    for number, nucleotides in cut:
        if f"{accession}_chunk_{number}" in wanted:
            yield _Window(
                accession=accession,
                number=number,
                nucleotides=nucleotides,
                is_sequence=len(cut) == 1,
            )


def _open_frames(found: dict[str, _Window], origins: pd.DataFrame) -> pd.DataFrame:
    rows = [
        (name, frame.id, frame.nucleotides, frame.protein, frame.frame)
        for name, each in sorted(found.items())
        for frame in open_frames(each.accession, each.number, each.nucleotides)
        if frame.protein
    ]
    columns = ["window_id", "id", "nucleotides", "protein", "frame"]
    frames = pd.DataFrame(rows, columns=columns, dtype="str")
    kept = ["label", "accession", "window", "lineage", "source_kind", "genome"]
    return frames.join(origins[kept], on="window_id").astype(RECORD_COLUMNS)


def _check_records(test: pd.DataFrame, frames: pd.DataFrame) -> None:
    """Refuse windows of which a test record is no open frame, base for base."""
    own = frames.set_index("id")[["nucleotides", "protein"]].reindex(test["id"])
    is_other = (own.to_numpy() != test[["nucleotides", "protein"]].to_numpy()).any(axis=1)
    if is_other.any():
        first = test["id"].iloc[int(is_other.argmax())]
        raise DataError(
            f"{int(is_other.sum()):,} of {len(test):,} test records are no open frame of the "
            f"window of their id, such as {first!r}: other sequences, or windows of another size. "
            "Name by [data] windows what the records were cut from (for 300 bases, VirNucPro's "
            "*_chunked300.fa)"
        )
