"""The first stages: the record table, the split, and how near the test proteins are to training."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import pandas as pd

from harness.artifacts import Artifact, digest_file, digest_json, write_atomically
from harness.config import GateConfig
from harness.data import RecordSet, Split, digest_content, read_records
from harness.data.genbank import genbank_files
from harness.data.leakage import IdentityBins, measure_identity
from harness.data.read import MAX_REJECT_SHARE, source_files
from harness.data.testset import StoredTestSet, obtain_test_set
from harness.errors import DataError
from harness.pipeline.cache import StageCache
from harness.progress import Progress

__all__ = ["Samples"]

RECORDS_LAYOUT = 3  # 1 had no digest of the content, 2 other windows of genomes
CONTENT = "content.sha256"
NOT_KNOWN = "not in the taxonomy"  # the one genome of records that no source knows


class Samples:
    """The records of a run and their split.

    Parameters
    ----------
    config : GateConfig
        Names the sources and how the test set is drawn.
    work_dir : Path
        Where test sets are kept, by their records.
    cache : StageCache
        Keeps what is made.
    progress : Progress
        Shows how far reading is.
    """

    def __init__(
        self, config: GateConfig, work_dir: Path, cache: StageCache, progress: Progress
    ) -> None:
        self._config = config
        self._work_dir = work_dir
        self._cache = cache
        self._progress = progress

    def records(self) -> pd.DataFrame:
        """Return the record table of the configured sources."""
        return self._cache.once(
            "records", lambda: pd.read_parquet(self.folder() / "records.parquet")
        )

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

    def _is_any_known(self) -> bool:
        return self._cache.once("taxonomy", lambda: bool(_is_known(self.records()).any()))

    def n_rejected(self) -> int:
        """Return how many rows of the sources are no records; they stand in rejected.csv."""
        return len(pd.read_csv(self.folder() / "rejected.csv"))

    def folder(self) -> Path:
        """Return where the record table, rejected.csv and summary.txt lie."""
        return self._cache.once("records folder", self._read)

    def _read(self) -> Path:
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
            found.write_rejected(folder / "rejected.csv")
            _check_rejects(found, folder / "rejected.csv")
            found.records.to_parquet(folder / "records.parquet")
            write_atomically(folder / "summary.txt", "\n".join(found.summarise()) + "\n")
            write_atomically(folder / CONTENT, digest_content(found.records))

        return self._cache.obtain("records", inputs, build, stage="read the records").path

    def content_sha256(self) -> str:
        """Return the digest of the records' ids, labels and sequences.

        Embeddings, test set, heads and history hang on these, and not on what is said of lineages
        and genomes: a taxonomy can be corrected without losing them.
        """
        return (self.folder() / CONTENT).read_text(encoding="utf-8")

    def split(self, *, redraw: bool = False) -> Split:
        """Return the train, validation and test ids; those that were drawn before, if any.

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
        return self._cache.once("split", lambda: self._draw(redraw=redraw)).split

    def directory(self) -> Path:
        """Return where the test set of these records, and the history of its verdicts, is kept."""
        return self._work_dir / "test-sets" / self.content_sha256()[:16]

    def seeds_tried(self) -> list[int]:
        """Return the seeds of all test sets of these records, in the order they were drawn."""
        self.split()
        drawn: StoredTestSet = self._cache.made("split")
        return [*drawn.seeds_tried, drawn.split.seed]

    def part(self, name: str) -> pd.DataFrame:
        """Return the records of ``train``, ``validation`` or ``test``, sorted by id."""
        ids = getattr(self.split(), name)

        def make() -> pd.DataFrame:
            table = self.records().set_index("id").reindex(pd.Index(ids, name="id"))
            return table.reset_index()

        return self._cache.once(f"part {name}", make)

    def identity(self) -> IdentityBins:
        """Return how similar the test proteins are to training proteins, if MMseqs2 is there."""
        return self._cache.once("identity", self._measure_identity)

    def _draw(self, *, redraw: bool) -> StoredTestSet:
        config, records = self._config, self.records()
        with self._cache.log.stage("draw the test set") as entry:
            drawn = obtain_test_set(
                records,
                self.directory(),
                test_fraction=config.data.test_fraction,
                sampling_unit=config.data.sampling_unit,
                seed=config.seed,
                validation_fraction=config.training.validation_fraction,
                redraw=redraw,
            )
            entry.is_reused = drawn.is_reused
        self._cache.artifacts["split"] = Artifact(
            kind="test-sets",
            path=drawn.folder,
            sha256=digest_json({"records": self.content_sha256(), **drawn.split.to_dict()}),
            is_reused=drawn.is_reused,
        )
        return drawn

    def _measure_identity(self) -> IdentityBins:
        records, split = self.records(), self.split()
        if shutil.which("mmseqs") is None:  # nothing to keep: it may be there next time
            return measure_identity(records, split)

        def build(folder: Path) -> None:
            found = measure_identity(records, split, threads=self._config.threads)
            found.rows.to_parquet(folder / "identity.parquet")
            write_atomically(folder / "version.txt", found.version)

        inputs = {"split": self._cache.artifacts["split"].sha256}
        stage = "compare test and training proteins"
        folder = self._cache.obtain("identity", inputs, build, stage=stage).path
        version = (folder / "version.txt").read_text(encoding="utf-8")
        rows = pd.read_parquet(folder / "identity.parquet")
        return IdentityBins(rows=rows, n_test=len(split.test), version=version)


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
