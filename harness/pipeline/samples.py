"""The first stages: what is brought, the record table, the split, and how near to training it is.

A run may bring VirNucPro's files in place of embedding; they are converted once, before the records
are read, since a record without a vector can be none. How vectors become features is ``vectors``'
business.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import pandas as pd

from harness.artifacts import Artifact, digest_file, digest_json, write_atomically
from harness.config import GateConfig
from harness.data import RecordSet, Split, digest_content, read_records
from harness.data.deployed import TestWindows, find_test_windows
from harness.data.genbank import genbank_files
from harness.data.inputs import require_files
from harness.data.leakage import IdentityBins, measure_identity
from harness.data.read import MAX_REJECT_SHARE, find_sources, source_files
from harness.data.testset import obtain_test_set, read_test_ids
from harness.data.virnucpro import NUCLEOTIDE_ENDING, PROTEIN_ENDINGS
from harness.embedding import MergedFeatures
from harness.embedding.embedder import Rows
from harness.embedding.virnucpro import DNABERT_DIM, ImportedEmbeddings, import_embeddings
from harness.errors import DataError
from harness.pipeline.cache import StageCache, once
from harness.progress import Progress

__all__ = ["SIDES", "Brought", "BroughtFiles", "DrawnSplit", "Embedded", "Samples", "Side"]


Side = Literal["baseline", "candidate"]
SIDES: tuple[Side, Side] = ("baseline", "candidate")
Store = TypeVar("Store", bound=Rows, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded(Generic[Store]):
    """Embeddings of all records: computed here, or brought.

    Attributes
    ----------
    store : Rows
        Read access to the vectors.
    path : Path
        Their folder.
    sha256 : str
        Digest of the files.
    notes : mapping of JSON values
        How they were made, such as the pace; empty where that is not known.
    """

    store: Store
    path: Path
    sha256: str
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BroughtFiles:
    """A folder of VirNucPro's embedding files, and what they were converted to."""

    folder: Path
    files: tuple[Path, ...]
    embedded: Embedded[ImportedEmbeddings]


class Brought:
    """The embeddings and features that a run brings.

    Parameters
    ----------
    config : GateConfig
        Names their folders.
    cache : StageCache
        Keeps what they are converted to.
    progress : Progress
        Shows how far that is.
    """

    def __init__(self, config: GateConfig, cache: StageCache, progress: Progress) -> None:
        self._config, self._cache, self._progress = config, cache, progress

    @once
    def nucleotides(self) -> BroughtFiles | None:
        """Return the nucleotide embeddings, or None if none are brought."""
        folder = self._config.nucleotide.embeddings
        if folder is None:
            return None
        return self._convert("nucleotide", folder, (NUCLEOTIDE_ENDING,), DNABERT_DIM)

    @once
    def proteins(self, side: Side) -> BroughtFiles | None:
        """Return a side's protein embeddings, or None if it brings none."""
        folder: Path | None = getattr(self._config, side).embeddings
        return self._convert(f"{side} brought", folder, PROTEIN_ENDINGS) if folder else None

    @once
    def features(self, side: Side) -> MergedFeatures | None:
        """Return a side's features, or None if it brings none."""
        folder: Path | None = getattr(self._config, side).features
        if folder is None:
            return None
        with self._cache.log.stage(f"read the {side}'s features"):
            return MergedFeatures(folder)

    def covering(self) -> list[tuple[Path, str, Rows]]:
        """Return what every record needs a row in: its folder, its digest and the rows."""
        merged = [found for side in SIDES if (found := self.features(side))]
        parts = [self.proteins(side) for side in SIDES]
        if len(merged) < len(SIDES):
            parts.insert(0, self.nucleotides())
        return [
            *((p.folder, p.embedded.sha256, p.embedded.store) for p in parts if p),
            *((found.folder, found.sha256, found) for found in merged),
        ]

    def _convert(
        self, name: str, folder: Path, endings: tuple[str, ...], dim: int | None = None
    ) -> BroughtFiles:
        files = require_files(folder, *endings)
        inputs = {"files": [digest_file(path) for path in files], "dim": dim}

        def build(target: Path) -> None:
            with self._progress.task(f"read {name} embeddings", len(files), "files") as task:
                import_embeddings(files, target, dim=dim, task=task)

        made = self._cache.obtain(
            f"embeddings {name}",
            inputs,
            build,
            stage=f"read the {name} embeddings",
            kind="imported",
        )
        store = ImportedEmbeddings(made.path)
        embedded = Embedded(store=store, path=made.path, sha256=made.sha256)
        return BroughtFiles(folder=folder, files=files, embedded=embedded)


RECORDS_LAYOUT = 3  # 1 had no digest of the content, 2 other windows of genomes
FRAMES, COUNTS = "frames.parquet", "counts.json"
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
    brought : Brought
        Vectors that are brought, which each record needs.
    cache : StageCache
        Keeps what is made.
    progress : Progress
        Shows how far reading is.
    """

    def __init__(
        self, config: GateConfig, brought: Brought, cache: StageCache, progress: Progress
    ) -> None:
        self._config, self._brought = config, brought
        self._cache, self._progress = cache, progress

    @once
    def stored(self) -> StoredRecords:
        """Return where the record table of the configured sources lies, read if need be."""
        data, covering = self._config.data, self._brought.covering()
        inputs: dict[str, Any] = {
            "layout": RECORDS_LAYOUT,
            "viral": [_digest(source_files(path)) for path in data.viral],
            "nonviral": [_digest(source_files(path)) for path in data.nonviral],
            "taxonomy": _digest(genbank_files(data.taxonomy)) if data.taxonomy else None,
        }
        if covering:
            inputs["covered_by"] = [sha256 for _, sha256, _ in covering]
            inputs["max_uncovered"] = str(data.max_uncovered)

        def build(folder: Path) -> None:
            found = read_records(
                data.viral,
                data.nonviral,
                taxonomy=data.taxonomy,
                max_reject_share=Fraction(1),
                progress=self._progress,
            )
            covered = found
            for place, _, rows in covering:
                covered = covered.covered_by(rows.ids, place)
            covered.write_rejected(folder / REJECTED)
            _refuse_too_many(found, covered, data.max_uncovered, folder / REJECTED)
            found = covered
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

    def training_lineages(self) -> pd.Series[str]:
        """Return the lineages that the training part has."""
        records = self.records()
        return records["lineage"][~records["id"].isin(self.split().test)].drop_duplicates()

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
                test_ids=self._brought_ids(),
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

    def _brought_ids(self) -> pd.Series[str] | None:
        path = self._config.data.test_ids
        features = self._config.baseline.features or self._config.candidate.features
        return None if path is None else read_test_ids(path, features=features)

    def split(self) -> Split:
        """Return the train, validation and test ids."""
        return self.drawn().split

    @once
    def part(self, name: str) -> pd.DataFrame:
        """Return the records of ``train``, ``validation`` or ``test``, sorted by id."""
        ids = pd.Index(getattr(self.split(), name), name="id")
        return self.records().set_index("id").reindex(ids).reset_index()

    @once
    def windows(self) -> TestWindows:
        """Return the open frames of the test windows, as far as these are at hand whole.

        Where neither genomes nor windows are named, no test set is drawn for it.
        """
        data = self._config.data
        inputs = (*data.viral, *data.nonviral)
        whole = [source for entry in inputs for source in find_sources(entry)[0] if source.is_whole]
        named = [file for entry in data.windows for file in genbank_files(entry)]
        sources = (*(file for source in whole for file in source.files), *named)
        if not sources:
            return TestWindows()
        records, drawn = self.records(), self.drawn()

        def build(folder: Path) -> None:
            found = find_test_windows(records, drawn.split.test, sources)
            found.frames.to_parquet(folder / FRAMES)
            write_atomically(folder / COUNTS, json.dumps(found.counts()))

        made_from = {
            "records": self.stored().sha256,
            "split": drawn.sha256,
            "files": _digest(sources),
        }
        made = self._cache.obtain("windows", made_from, build, stage="find the test windows")
        counts = json.loads(made.file(COUNTS).read_text(encoding="utf-8"))
        return TestWindows(frames=pd.read_parquet(made.file(FRAMES)), **counts)

    @once
    def embedded(self) -> pd.DataFrame:
        """Return what is embedded: the records, then the test windows' other open frames.

        The latter are in no part of the split.
        """
        records, frames = self.records(), self.windows().frames
        others = frames[~frames["id"].isin(records["id"])]
        if others.empty:
            return records
        return pd.concat([records, others[list(records)]], ignore_index=True)

    def embedded_sha256(self) -> str:
        """Return the digest of what is embedded: that of the records, where there is no more."""
        if len(self.embedded()) == len(self.records()):
            return self.stored().content_sha256
        return digest_content(self.embedded())

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


def _refuse_too_many(
    found: RecordSet, covered: RecordSet, max_uncovered: Fraction, listed: Path
) -> None:
    """Refuse an input with too many unusable rows, once they are all listed in a file."""
    try:
        found.check_rejects(MAX_REJECT_SHARE)
    except DataError as error:
        raise DataError(f"{error}. All of them stand in {listed}") from error
    n_records, n_uncovered = len(found.records), len(found.records) - len(covered.records)
    if n_uncovered > max_uncovered * n_records:
        raise DataError(
            f"{n_uncovered:,} of {n_records:,} records have no vector in the files that are "
            f"brought, more than max_uncovered, {float(max_uncovered):.2%}. For example: "
            f"{covered.rejected['id'].iloc[-1]!r}: {covered.rejected['reason'].iloc[-1]}. Embed "
            "them, name a model in place of the files, or raise `max_uncovered` in [data]. All of "
            f"them stand in {listed}"
        )
