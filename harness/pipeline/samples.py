"""The first stages: the record table, the split, and how near the test proteins are to training."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pandas as pd

from harness.artifacts import Artifact, digest_file, digest_json, write_atomically
from harness.config import GateConfig
from harness.data import RecordSet, Split, digest_content, read_records
from harness.data.genbank import genbank_files
from harness.data.leakage import IdentityBins, measure_identity
from harness.data.read import MAX_REJECT_SHARE, source_files
from harness.data.testset import obtain_test_set
from harness.errors import DataError
from harness.pipeline.cache import StageCache, once
from harness.progress import Progress

__all__ = ["DrawnSplit", "Samples", "StoredRecords"]

RECORDS_LAYOUT = 3  # 1 had no digest of the content, 2 other windows of genomes
TABLE, REJECTED, CONTENT = "records.parquet", "rejected.csv", "content.sha256"
NOT_KNOWN = "not in the taxonomy"  # the one genome of records that no source knows


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecords:
    """The record table on disk.

    Attributes
    ----------
    path : Path
        The folder of the table, ``rejected.csv`` and ``summary.txt``.
    sha256 : str
        Digest of these files.
    content_sha256 : str
        Digest of the records' ids, labels and sequences. Embeddings, test set, heads and history
        hang on these, and not on what is said of lineages and genomes: a taxonomy can be corrected
        without losing them.
    """

    path: Path
    sha256: str
    content_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnSplit:
    """The train, validation and test ids, and where they lie.

    Attributes
    ----------
    split : Split
        The ids.
    path : Path
        The folder of the test set.
    sha256 : str
        Digest of the records' content and all that was drawn.
    seeds_tried : tuple of int
        The seeds of all test sets of these records, in the order they were drawn.
    """

    split: Split
    path: Path
    sha256: str
    seeds_tried: tuple[int, ...]


class Samples:
    """The records of a run and their split.

    Parameters
    ----------
    config : GateConfig
        Names the sources and how the test set is drawn.
    cache : StageCache
        Keeps what is made.
    progress : Progress
        Shows how far reading is.
    """

    def __init__(self, config: GateConfig, cache: StageCache, progress: Progress) -> None:
        self._config, self._cache, self._progress = config, cache, progress

    @once
    def stored(self) -> StoredRecords:
        """Return where the record table of the configured sources lies, read if need be."""
        data = self._config.data
        inputs = {
            "layout": RECORDS_LAYOUT,
            "viral": [_digest(source_files(path)) for path in data.viral],
            "nonviral": [_digest(source_files(path)) for path in data.nonviral],
            "taxonomy": _digest(genbank_files(data.taxonomy)) if data.taxonomy else None,
        }

        def build(folder: Path) -> None:
            found = read_records(
                data.viral,
                data.nonviral,
                taxonomy=data.taxonomy,
                max_reject_share=Fraction(1),
                progress=self._progress,
            )
            found.write_rejected(folder / REJECTED)
            _check_rejects(found, folder / REJECTED)
            found.records.to_parquet(folder / TABLE)
            write_atomically(folder / "summary.txt", "\n".join(found.summarise()) + "\n")
            write_atomically(folder / CONTENT, digest_content(found.records))

        made = self._cache.obtain("records", inputs, build, stage="read the records")
        for name in (TABLE, REJECTED):
            made.file(name)
        content = made.file(CONTENT).read_text(encoding="utf-8")
        return StoredRecords(path=made.path, sha256=made.sha256, content_sha256=content)

    @once
    def records(self) -> pd.DataFrame:
        """Return the record table of the configured sources."""
        return pd.read_parquet(self.stored().path / TABLE)

    def n_rejected(self) -> int:
        """Return how many rows of the sources are no records; they stand in rejected.csv."""
        return len(pd.read_csv(self.stored().path / REJECTED))

    def genomes(self, ids: pd.Series[str]) -> pd.Series[str] | None:
        """Return the genome (assembly) of each of some test records, or None if none is known.

        Test records that no source or taxonomy knows are taken to be of one genome: their
        accessions may be contigs of it.
        """
        if not self._is_any_known():
            return None
        test = self.part("test").set_index("id")
        genomes = test["genome"].where(_is_known(test), NOT_KNOWN)
        return genomes.reindex(ids).reset_index(drop=True)

    def without_taxonomy(self) -> pd.DataFrame:
        """Return the test records that ``genomes`` takes to be of one genome."""
        test = self.part("test")
        return test[~_is_known(test) & self._is_any_known()]

    @once
    def _is_any_known(self) -> bool:
        return bool(_is_known(self.records()).any())

    def directory(self) -> Path:
        """Return where the test set of these records, and the history of its verdicts, is kept."""
        return self._cache.work_dir / "test-sets" / self.stored().content_sha256[:16]

    @once
    def drawn(self, *, redraw: bool = False) -> DrawnSplit:
        """Return the split of the records: the one that was drawn before, if any.

        Parameters
        ----------
        redraw : bool
            Replace a test set that was drawn with other settings; its seed stays on record.

        Raises
        ------
        ArtifactError
            If these records have a test set that was drawn with other settings, and ``redraw`` is
            not set.
        """
        config, records = self._config, self.records()
        with self._cache.log.stage("draw the test set") as entry:
            found = obtain_test_set(
                records,
                self.directory(),
                test_fraction=config.data.test_fraction,
                sampling_unit=config.data.sampling_unit,
                seed=config.seed,
                validation_fraction=config.training.validation_fraction,
                redraw=redraw,
            )
            entry.is_reused = found.is_reused
        content = {"records": self.stored().content_sha256, **found.split.to_dict()}
        artifact = Artifact(
            kind="test-sets",
            path=found.folder,
            sha256=digest_json(content),
            is_reused=found.is_reused,
        )
        self._cache.obtained["split"] = artifact
        return DrawnSplit(
            split=found.split,
            path=artifact.path,
            sha256=artifact.sha256,
            seeds_tried=(*found.seeds_tried, found.split.seed),
        )

    def split(self) -> Split:
        """Return the train, validation and test ids."""
        return self.drawn().split

    @once
    def part(self, name: str) -> pd.DataFrame:
        """Return the records of ``train``, ``validation`` or ``test``, sorted by id."""
        ids = pd.Index(getattr(self.split(), name), name="id")
        return self.records().set_index("id").reindex(ids).reset_index()

    @once
    def identity(self) -> IdentityBins:
        """Return how similar the test proteins are to training proteins, if MMseqs2 is there."""
        records, drawn = self.records(), self.drawn()
        if shutil.which("mmseqs") is None:  # nothing to keep: it may be there next time
            return measure_identity(records, drawn.split)

        def build(folder: Path) -> None:
            found = measure_identity(records, drawn.split, threads=self._config.threads)
            found.rows.to_parquet(folder / "identity.parquet")
            write_atomically(folder / "version.txt", found.version)

        stage = "compare test and training proteins"
        made = self._cache.obtain("identity", {"split": drawn.sha256}, build, stage=stage)
        version = made.file("version.txt").read_text(encoding="utf-8")
        rows = pd.read_parquet(made.file("identity.parquet"))
        return IdentityBins(rows=rows, n_test=len(drawn.split.test), version=version)


def _is_known(records: pd.DataFrame) -> pd.Series[bool]:
    """Whether a source or a taxonomy tells of each record's accession."""
    return (records["lineage"] != "") | (records["genome"] != records["accession"])


def _digest(files: tuple[Path, ...]) -> list[str]:
    return [digest_file(file) for file in files]


def _check_rejects(found: RecordSet, listed: Path) -> None:
    """Refuse an input with too many unusable rows, once they are all listed in a file."""
    try:
        found.check_rejects(MAX_REJECT_SHARE)
    except DataError as error:
        raise DataError(f"{error}. All of them stand in {listed}") from error
