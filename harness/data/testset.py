"""The test set as files in a directory of its own: drawn once, then kept.

The directory holds ``manifest.json`` and a folder for each draw with its FASTA pairs and split.
A set that stands there is used again; drawing another one must be asked for, and is recorded.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from harness.artifacts import digest_file, digest_json, write_atomically
from harness.data.fasta import read_fasta
from harness.data.groups import order_by_id, sampling_units
from harness.data.inputs import list_files, open_text
from harness.data.split import Split, draw_split, exact_fraction
from harness.data.virnucpro import MERGED_ENDING, read_embeddings, read_merged, read_merged_folder
from harness.documents import read_json
from harness.errors import ArtifactError, DataError, MissingInput

__all__ = ["obtain_test_set", "read_test_ids"]

MANIFEST = "manifest.json"
MANIFEST_BYTES = 4 << 30  # it lists the ids
CLASS_PREFIXES = {1: "viral", 0: "nonviral"}
PAIR_COLUMNS = {"nucleotide": "nucleotides", "protein": "protein"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredTestSet:
    """A test set on disk.

    Attributes
    ----------
    folder : Path
        The folder of this draw: ``viral_nucleotide.fa``, ``viral_protein.fa``, the same for
        ``nonviral``, ``split.parquet`` and ``split.json``.
    split : Split
        All three parts.
    seeds_tried : tuple of int
        The seeds of the sets that stood in the directory before, oldest first.
    is_reused : bool
        Whether it stood there already.
    """

    folder: Path
    split: Split
    seeds_tried: tuple[int, ...]
    is_reused: bool


def obtain_test_set(
    records: pd.DataFrame,
    directory: Path,
    *,
    test_fraction: str | float | Fraction = "0.10",
    sampling_unit: str = "record",
    seed: int = 42,
    validation_fraction: str | float | Fraction = "0.10",
    test_ids: pd.Series[str] | None = None,
    redraw: bool = False,
) -> StoredTestSet:
    """Return the test set that stands in a directory; draw it if there is none.

    Parameters
    ----------
    records : DataFrame
        A record table.
    directory : Path
        The test set's own directory; several processes may ask at once.
    test_fraction, sampling_unit, seed, validation_fraction, test_ids
        As for ``draw_split``.
    redraw : bool
        Replace a set that was drawn from other records or with other settings. Its files stay,
        and its seed is added to the seeds tried.

    Raises
    ------
    ArtifactError
        If another set stands there and ``redraw`` is not set, or if its files have changed; also if
        it was drawn by genome or lineage, and another taxonomy divides these otherwise.
    DataError
        If an id cannot stand in a FASTA header, or the records cannot be drawn from.
    """
    request = {
        "sampling_unit": sampling_unit,
        "test_fraction": str(exact_fraction(test_fraction)),
        "validation_fraction": str(exact_fraction(validation_fraction)),
        "seed": seed,
        "n_records": len(records),
        "records_sha256": _digest_labels(records),
    }
    if test_ids is not None:
        test_ids = test_ids.sort_values(ignore_index=True)
        request["test_ids_sha256"] = digest_json(test_ids.tolist())
    directory.mkdir(parents=True, exist_ok=True)
    with FileLock(directory / ".lock"):
        manifest = _read_manifest(directory)
        if manifest is None:
            return _draw(records, directory, request, test_ids, seeds_tried=[])
        refusal = _refusal(directory, manifest["request"], request)
        if manifest["request"] == request:
            try:
                stored = _reuse(records, directory, manifest)
            except (OSError, LookupError, TypeError, ValueError) as error:
                path = directory / MANIFEST
                raise ArtifactError(f"{path}: cannot be used: {error!r}. Restore it") from error
            if not (n_divided := _count_divided(records, stored.split)):
                return stored
            refusal = (
                f"{directory}: the test set there was drawn by {sampling_unit}, but {n_divided:,} "
                f"of its {sampling_unit}s are in the training part, too, as the taxonomy is now. "
                "Use the taxonomy that it was drawn with, or ask for a new draw with redraw=True "
                "(harness split --redraw)"
            )
        if not redraw:
            raise ArtifactError(refusal)
        tried = [*manifest["seeds_tried"], manifest["request"].get("seed")]
        return _draw(records, directory, request, test_ids, seeds_tried=tried)


def _draw(
    records: pd.DataFrame,
    directory: Path,
    request: dict[str, Any],
    test_ids: pd.Series[str] | None,
    *,
    seeds_tried: list[int],
) -> StoredTestSet:
    settings = ("test_fraction", "sampling_unit", "seed", "validation_fraction")
    split = draw_split(records, test_ids=test_ids, **{name: request[name] for name in settings})
    fasta = _render(records, split)
    folder = directory / f"draw_{len(seeds_tried) + 1}"
    partial = folder.with_suffix(".partial")
    for leftover in (partial, folder):  # of a draw that was interrupted: no manifest names it
        shutil.rmtree(leftover, ignore_errors=True)
    split.save(partial)
    for name, content in fasta.items():
        (partial / name).write_bytes(content)
    files = {path.name: digest_file(path) for path in sorted(partial.iterdir())}
    partial.rename(folder)
    manifest = {
        "draw": folder.name,
        "request": request,
        "seeds_tried": seeds_tried,
        "brought": split.is_brought,
        "counts": [asdict(count) for count in split.counts],
        "ids_sha256": split.id_digests(),
        "files": files,
        "ids": split.test.tolist(),
    }
    write_atomically(directory / MANIFEST, json.dumps(manifest, indent=1))
    return StoredTestSet(
        folder=folder, split=split, seeds_tried=tuple(seeds_tried), is_reused=False
    )


def _reuse(records: pd.DataFrame, directory: Path, manifest: dict[str, Any]) -> StoredTestSet:
    folder = directory / manifest["draw"]
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file() or digest_file(path) != expected:
            raise ArtifactError(
                f"{path}: is not the file that was written with the test set. Restore it from a "
                "copy; in another directory the same seed draws the same ids"
            )
    split = Split.load(folder)
    for name, content in _render(records, split).items():
        if hashlib.sha256(content).hexdigest() != manifest["files"][name]:
            raise ArtifactError(
                f"{folder / name}: the records of the test set have other sequences or labels now. "
                f"Use the records that it was drawn from, or another directory than {directory}"
            )
    return StoredTestSet(
        folder=folder, split=split, seeds_tried=tuple(manifest["seeds_tried"]), is_reused=True
    )


def _count_divided(records: pd.DataFrame, split: Split) -> int:
    """Return how many genomes or lineages, where whole ones were drawn, are in both parts now."""
    if split.is_brought or split.sampling_unit not in ("genome", "lineage"):
        return 0  # no taxonomy tells records and windows apart
    units = sampling_units(records, split.sampling_unit)
    is_test = split.masks(records["id"]).test
    return len(np.intersect1d(units[is_test], units[~is_test]))


def _read_manifest(directory: Path) -> dict[str, Any] | None:
    path = directory / MANIFEST
    if not path.exists():
        draws = sorted(found.name for found in directory.glob("draw_*[0-9]"))
        if draws:
            raise ArtifactError(
                f"{directory}: holds {', '.join(draws)} but no {MANIFEST}, so the seeds tried are "
                "unknown. Restore the manifest, or delete the directory to draw anew"
            )
        return None
    try:
        manifest: dict[str, Any] = read_json(path, most_bytes=MANIFEST_BYTES)
        kinds = {"draw": str, "request": dict, "seeds_tried": list, "files": dict}
        missing = [name for name, kind in kinds.items() if not isinstance(manifest.get(name), kind)]
    except (OSError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}. Restore it") from error
    if missing:
        raise ArtifactError(f"{path}: {', '.join(sorted(missing))} are missing. Restore it")
    return manifest


def _refusal(directory: Path, stands: dict[str, Any], asked: dict[str, Any]) -> str:
    differences = ", ".join(
        f"{name} {stands.get(name)} (asked for: {value})"
        for name, value in asked.items()
        if stands.get(name) != value
    )
    return (
        f"{directory}: another test set stands there, drawn with {differences}. Ask for that one, "
        "or for a new draw with redraw=True (harness split --redraw); the earlier seed then stays "
        "recorded"
    )


def _render(records: pd.DataFrame, split: Split) -> dict[str, bytes]:
    """Return the FASTA files' contents by name, rows sorted by id."""
    rows = records[split.masks(records["id"]).test]
    rows = rows.iloc[order_by_id(rows)]
    unfit = rows["id"][rows["id"].str.contains(r"\s|^$")]
    if len(unfit):
        raise DataError(
            f"{len(unfit)} ids cannot stand in a FASTA header, such as {unfit.iloc[0]!r}: they are "
            "empty or hold white space. Rename the records"
        )
    return {
        f"{prefix}_{kind}.fa": _fasta(rows[rows["label"] == label], column)
        for label, prefix in CLASS_PREFIXES.items()
        for kind, column in PAIR_COLUMNS.items()
    }


def _fasta(rows: pd.DataFrame, column: str) -> bytes:
    pairs = zip(rows["id"].tolist(), rows[column].tolist(), strict=True)
    return "".join(f">{name}\n{sequence}\n" for name, sequence in pairs).encode()


def _digest_labels(records: pd.DataFrame) -> str:
    """Return the sha256 of the table's ids and labels, whatever the order of its rows."""
    order = order_by_id(records)
    ids, labels = records["id"].iloc[order].tolist(), records["label"].to_numpy()[order].tolist()
    lines = (f"{name}\t{label}\n" for name, label in zip(ids, labels, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


# The name of the split that VirNucPro's train.py makes, and what it makes it with.
VIRNUCPRO_SPLIT = "virnucpro"
_FIRST_FOLDER, _SHUFFLING_SEED, _TEST_PART = "viral.1.1_merged", 42, 10
_FASTA_ENDINGS = (".fa", ".faa", ".fasta", ".fna", ".fa.gz", ".faa.gz", ".fasta.gz", ".fna.gz")


def read_test_ids(path: Path, *, features: Path | None = None) -> pd.Series[str]:
    """Read the ids of a test set that is brought.

    Parameters
    ----------
    path : Path
        Ids, one a line, or a table with a column ``id``; FASTA; a folder such as VirNucPro's
        ``test_set/``, with FASTA files or ``.pt`` files in it; or, where there is no such file,
        ``virnucpro``: the rows that its train.py tests on.
    features : Path, optional
        The folder of merged files whose rows VirNucPro's own split numbers.

    Returns
    -------
    Series of str
        No two alike.

    Raises
    ------
    MissingInput
        If nothing is there, or VirNucPro's split is asked for without its merged files.
    DataError
        If a file cannot be read.
    """
    if path.name == VIRNUCPRO_SPLIT and not path.exists():
        if features is None:
            raise MissingInput(
                f'test_ids = "{VIRNUCPRO_SPLIT}" needs the merged files that train.py read',
                remedy="Set `features` of a side to their folder, or name a file of ids",
            )
        ids = _virnucpro_test_ids(features)
    elif path.is_dir():
        ids = [name for file in list_files(path) for name in _ids_of(file)]
    else:
        ids = _ids_of(path) if path.name.endswith(_FASTA_ENDINGS) else _listed_ids(path)
    if not ids:
        raise MissingInput(
            f"{path} holds no ids of a test set",
            remedy="Taken are ids, one a line or in a column `id`, FASTA files, and folders of "
            "FASTA files, *_merged.pt or embedding files",
        )
    return pd.Series(ids, dtype="str").drop_duplicates().reset_index(drop=True)


def _virnucpro_test_ids(folder: Path) -> list[str]:
    """Return the first tenth of all merged rows, as train.py lists and shuffles them."""
    files = sorted(
        read_merged_folder(folder),
        key=lambda file: (
            file.path.parent.name != _FIRST_FOLDER,
            file.path.parent.name,
            file.path.name,
        ),
    )
    ids = [name for file in files for name in file.ids]
    numbers = list(range(len(ids)))
    random.Random(_SHUFFLING_SEED).shuffle(numbers)  # noqa: S311 - VirNucPro's generator
    return [ids[number] for number in numbers[: len(ids) // _TEST_PART]]


def _ids_of(file: Path) -> list[str]:
    if file.name.endswith(_FASTA_ENDINGS):
        ids: list[str] = read_fasta(file)["id"].to_pylist()
        return ids
    if file.suffix == ".pt":
        read = read_merged if file.name.endswith(MERGED_ENDING) else read_embeddings
        return list(read(file).ids)
    return []


def _listed_ids(path: Path) -> list[str]:
    with open_text(path) as (text, _):
        try:
            lines = [line.strip() for line in text if line.strip() and not line.startswith("#")]
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: ids must be UTF-8 text: {error}") from error
    header = re.split(r"[,\t]", lines[0]) if lines else []
    if "id" not in header:
        return lines
    column = header.index("id")
    return [(re.split(r"[,\t]", line) + [""] * len(header))[column] for line in lines[1:]]
