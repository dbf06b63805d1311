"""How similar the test proteins are to the training proteins, by MMseqs2.

Leak checks compare sequences for equality; this tells how close the rest comes, so that accuracy
can be read by similarity. MMseqs2 is a program of its own; without it the result says how to get
it, and no number is made up.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.data.groups import order_by_id
from harness.data.split import Split
from harness.errors import DataError

__all__ = ["IDENTITY_BINS", "IdentityBins", "measure_identity"]

IDENTITY_BINS = ("<30", "30-50", "50-90", ">=90")  # percent; the lower end belongs to the bin
_BIN_EDGES = (0.30, 0.50, 0.90)
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
    sensitivity: float = 5.7,
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
    sensitivity : float
        MMseqs2's ``-s``, from 1 (fast) to 7.5; 5.7 is its own default.
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
    options = ["-s", str(sensitivity)] + (["--threads", str(threads)] if threads else [])
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
