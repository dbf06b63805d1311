"""Leaks between the parts of a split: what may not happen, and what should be known.

Hard leaks are counted exactly and fail the criterion ``split-integrity``; how near the test rows
are to the training part otherwise (same genome, neighbouring window, other frame) is reported. So
is how similar the test proteins are to training proteins, by MMseqs2: a program of its own, without
which the result says how to get it, and no number is made up.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.data.groups import Codes, is_in, order_by_id, sequence_codes, window_codes
from harness.data.records import check_records
from harness.data.split import RowMasks, Split
from harness.errors import DataError

__all__ = [
    "IdentityBins",
    "LeakCheck",
    "LeakReport",
    "NearbyRows",
    "find_leaks",
    "measure_identity",
]


IDENTITY_BINS = ("<30", "30-50", "50-90", ">=90")  # percent; the lower end belongs to the bin
_BIN_EDGES = (0.30, 0.50, 0.90)
_SENSITIVITY = "5.7"  # from 1 (fast) to 7.5
_MIN_COVERAGE = "0.8"  # of the test protein

REMEDY = (
    "The program 'mmseqs' is not on the PATH. Install MMseqs2: apt-get install mmseqs2, "
    "or conda install -c conda-forge -c bioconda mmseqs2"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IdentityBins:
    """The identity of each test protein to the most similar training protein.

    Attributes
    ----------
    rows : DataFrame
        One row a measured test record: ``id``; ``identity`` from 0 to 1, NaN without a hit;
        ``bin``, one of ``IDENTITY_BINS``, the lowest without a hit. Empty if nothing was measured.
    n_test : int
        All test records; more than ``rows`` has where a sample was measured.
    version : str
        Of MMseqs2; empty if nothing was measured.
    remedy : str
        What to do to get a measurement; empty if there is one.
    """

    rows: pd.DataFrame
    n_test: int
    version: str = ""
    remedy: str = ""

    @property
    def is_measured(self) -> bool:
        """Whether MMseqs2 was there."""
        return not self.remedy

    @property
    def counts(self) -> dict[str, int]:
        """Return the measured records in each bin, lowest first; empty if nothing was."""
        if not self.is_measured:
            return {}
        return {name: int((self.rows["bin"] == name).sum()) for name in IDENTITY_BINS}


def measure_identity(
    records: pd.DataFrame,
    split: Split,
    *,
    max_rows: int = 10_000,
    seed: int = 0,
    threads: int | None = None,
    scratch: Path | None = None,
) -> IdentityBins:
    """Search the test proteins among the proteins of the training part.

    Parameters
    ----------
    records : DataFrame
        A record table.
    split : Split
        Its parts; train and validation are searched.
    max_rows : int
        Of more test records a random sample of this size is measured: the search costs as much
        as test times training proteins.
    seed : int
        Of that sample; the order of rows does not matter.
    threads : int, optional
        All processors, if not given.
    scratch : Path, optional
        Where the temporary files go; several times the size of the proteins.

    Returns
    -------
    IdentityBins
        With a remedy in place of numbers if MMseqs2 is not on the PATH.

    Raises
    ------
    DataError
        If a record has no protein, or MMseqs2 fails.

    Notes
    -----
    A hit covers at least 0.8 of the test protein (``--cov-mode 2``: a test protein that lies
    inside a longer training protein is a hit). Identity is that of the alignment
    (``--alignment-mode 3``), the highest among a protein's hits. Low-complexity stretches start
    no alignment, and hits with an E-value over 0.001 do not count: MMseqs2's defaults.
    """
    masks = split.masks(records["id"])
    n_test = int(masks.test.sum())
    program = shutil.which("mmseqs")
    if program is None:
        nothing = _rows(pd.Series(dtype="str"), np.empty(0))
        return IdentityBins(rows=nothing, n_test=n_test, remedy=REMEDY)
    tested = _sample(records.loc[masks.test, ["id", "protein"]], max_rows, seed)
    trained = records.loc[masks.training_part, ["id", "protein"]]
    _require_proteins(pd.concat([tested, trained]))
    query_of_row, queries = pd.factorize(tested["protein"])
    targets = trained["protein"].unique()
    options = ["-s", _SENSITIVITY] + (["--threads", str(threads)] if threads else [])
    with tempfile.TemporaryDirectory(dir=scratch, prefix="mmseqs-") as folder:
        best = _search(program, queries.tolist(), targets.tolist(), options, Path(folder))
    version = _run([program, "version"]).strip()
    return IdentityBins(
        rows=_rows(tested["id"], best[query_of_row]), n_test=n_test, version=version
    )


def _sample(rows: pd.DataFrame, max_rows: int, seed: int) -> pd.DataFrame:
    chosen = np.random.default_rng(seed).permutation(len(rows))[:max_rows]
    return rows.iloc[np.sort(order_by_id(rows)[chosen])]


def _rows(ids: pd.Series, identity: npt.NDArray[np.float64]) -> pd.DataFrame:
    names = np.array(IDENTITY_BINS)[np.digitize(np.nan_to_num(identity), _BIN_EDGES)]
    return pd.DataFrame(
        {"id": ids.array, "identity": identity, "bin": pd.array(names, dtype="str")}
    )


def _require_proteins(records: pd.DataFrame) -> None:
    missing = records["id"][records["protein"] == ""]
    if len(missing):
        raise DataError(
            f"{len(missing)} records have no protein, such as {missing.iloc[0]!r}: their identity "
            "cannot be measured. Give the proteins as FASTA"
        )


def _search(
    program: str, queries: list[str], targets: list[str], options: list[str], at: Path
) -> npt.NDArray[np.float64]:
    """Return the highest identity of each query among the targets, (n_queries,); NaN: no hit."""
    best = np.full(len(queries), np.nan)
    if not (queries and targets):
        return best
    _write_fasta(at / "queries.fa", queries)
    _write_fasta(at / "targets.fa", targets)
    paths = [str(at / name) for name in ("queries.fa", "targets.fa", "hits.tsv", "tmp")]
    fixed = ["--alignment-mode", "3", "-c", _MIN_COVERAGE, "--cov-mode", "2"]
    form = ["--format-output", "query,fident", "-v", "1"]
    _run([program, "easy-search", *paths, *fixed, *options, *form])
    hits = pd.read_csv(at / "hits.tsv", sep="\t", names=["query", "identity"], dtype=float)
    highest = hits.groupby("query")["identity"].max()
    best[highest.index.to_numpy(dtype=int)] = highest
    return best


def _write_fasta(path: Path, proteins: list[str]) -> None:
    """Name the proteins by number: programs read meanings into other names."""
    with path.open("w", encoding="ascii") as file:
        file.writelines(f">{number}\n{protein}\n" for number, protein in enumerate(proteins))


def _run(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        tail = (result.stderr or result.stdout).strip()[-500:]
        raise DataError(f"{' '.join(command[:2])} ended with {result.returncode}: {tail}")
    return result.stdout


MAX_EXAMPLES = 5

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakCheck:
    """One thing that may not happen, and how often it does.

    Attributes
    ----------
    what : str
        What was looked for, in words.
    count : int
        How often it was found: rows, or sequences where the words say so. 0 is clean.
    examples : tuple of tuple of str
        Ids concerned, up to five; pairs where two rows clash.
    is_in_data : bool
        Whether the data contradict themselves, however they are split.
    """

    what: str
    count: int
    examples: tuple[tuple[str, ...], ...] = ()
    is_in_data: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NearbyRows:
    """Test rows with something close to them in the training part; allowed, but reported.

    Attributes
    ----------
    what : str
        What is close: the same genome, a neighbouring window, another frame of the window.
    count : int
        Test rows for which it is in the training part.
    n_test : int
        All test rows.
    """

    what: str
    count: int
    n_test: int

    @property
    def share(self) -> Fraction:
        """Return the share of test rows, from 0 to 1; 0 where there are none."""
        return Fraction(self.count, self.n_test) if self.n_test else Fraction(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakReport:
    """All checks of one split.

    Attributes
    ----------
    checks : tuple of LeakCheck
        The hard ones, those with nothing found included.
    nearby : tuple of NearbyRows
        What is reported only.
    """

    checks: tuple[LeakCheck, ...]
    nearby: tuple[NearbyRows, ...]

    @property
    def leaks(self) -> tuple[LeakCheck, ...]:
        """Return the checks that found something."""
        return tuple(check for check in self.checks if check.count)


def find_leaks(records: pd.DataFrame, split: Split) -> LeakReport:
    """Look for anything that the test set shares with the training part, and for contradictions.

    Parameters
    ----------
    records : DataFrame
        The record table that was split.
    split : Split
        Its parts, drawn here or elsewhere.

    Returns
    -------
    LeakReport
        Sequences are compared exactly; nucleotides on both strands.

    Raises
    ------
    DataError
        If the table is not a valid record table.
    """
    check_records(records)
    masks, codes = split.masks(records["id"]), sequence_codes(records)
    checks = _hard_checks(
        records["id"],
        records["label"].to_numpy(),
        masks,
        {"nucleotides": codes.nucleotides, "protein": codes.protein},
    )
    return LeakReport(
        checks=(*checks, *_coverage(records["id"], split, masks)),
        nearby=_nearby(records, masks),
    )


def _hard_checks(
    ids: pd.Series,
    label: npt.NDArray[np.integer],
    masks: RowMasks,
    codes: Mapping[str, Codes],
) -> Iterator[LeakCheck]:
    same = {"id": np.arange(len(ids)), **codes}
    for name, code in same.items():
        what = f"test rows with the same {name} as a row of the training part"
        yield _shared(what, ids, code, masks.test, masks.training_part)
    for name, code in same.items():
        what = f"validation rows with the same {name} as a row of train"
        yield _shared(what, ids, code, masks.validation, masks.train)
    for name, code in codes.items():
        yield _two_labels(f"{name} with two labels (distinct sequences)", ids, code, label)


def _shared(what: str, ids: pd.Series, codes: Codes, part: Mask, other: Mask) -> LeakCheck:
    rows = np.flatnonzero(part)
    partner = _first_row_of_code(codes, other)[codes[rows]]
    found = partner >= 0
    return _check(what, ids, rows[found], partner[found])


def _two_labels(
    what: str, ids: pd.Series, codes: Codes, label: npt.NDArray[np.integer]
) -> LeakCheck:
    viral, other = _first_row_of_code(codes, label == 1), _first_row_of_code(codes, label == 0)
    found = (viral >= 0) & (other >= 0)
    return replace(_check(what, ids, viral[found], other[found]), is_in_data=True)


def _first_row_of_code(codes: Codes, is_member: Mask) -> Codes:
    """Return the first member row of each code, (n_codes,); -1 where there is none."""
    rows = np.flatnonzero(is_member)[::-1]
    first = np.full(int(codes.max(initial=-1)) + 1, -1, dtype=np.int64)
    first[codes[rows]] = rows
    return first


def _check(what: str, ids: pd.Series, *rows: Codes) -> LeakCheck:
    columns = [ids.iloc[row[:MAX_EXAMPLES]] for row in rows]
    examples = tuple(tuple(map(str, clash)) for clash in zip(*columns, strict=True))
    return LeakCheck(what=what, count=len(rows[0]), examples=examples)


def _coverage(ids: pd.Series, split: Split, masks: RowMasks) -> tuple[LeakCheck, LeakCheck]:
    in_no_part = np.flatnonzero(~(masks.training_part | masks.test))
    named = pd.concat([split.train, split.validation, split.test], ignore_index=True)
    strangers = np.flatnonzero(~is_in(named, ids))
    return (
        _check("records in no part of the split", ids, in_no_part),
        _check("ids in the split without a record", named, strangers),
    )


def _nearby(records: pd.DataFrame, masks: RowMasks) -> tuple[NearbyRows, ...]:
    genome = np.where(records["genome"] == "", -1, pd.factorize(records["genome"])[0])
    window = window_codes(records)
    return (
        _near("genome in the training part", genome, masks),
        _near("neighbouring window in the training part", window, masks, offsets=(-1, 1)),
        _near("other frame of the same window in the training part", window, masks),
    )


def _near(
    what: str, place: Codes, masks: RowMasks, *, offsets: tuple[int, ...] = (0,)
) -> NearbyRows:
    is_known = place >= 0
    in_training = pd.unique(place[masks.training_part & is_known])
    tested = pd.Series(place[masks.test & is_known])
    is_near = np.logical_or.reduce([(tested + step).isin(in_training) for step in offsets])
    return NearbyRows(what=what, count=int(is_near.sum()), n_test=int(masks.test.sum()))
