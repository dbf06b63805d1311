"""A run's embeddings as VirNucPro's files: nucleotide, protein, and both merged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from harness.data.formats.virnucpro import (
    MERGED_ENDING,
    NUCLEOTIDE_ENDING,
    PROTEIN_ENDING,
    write_embeddings,
    write_merged,
)
from harness.embedding.joining import Rows
from harness.embedding.virnucpro.files import DNABERT_DIM
from harness.progress import Task

__all__ = ["FOLDERS", "ROWS_PER_FILE", "export_embeddings"]

ROWS_PER_FILE = 10_000  # as VirNucPro's tools write them

# VirNucPro takes a merged folder for viral if its name holds "viral", so the other's must not.
FOLDERS = {1: "viral", 0: "other"}


def export_embeddings(
    records: pd.DataFrame,
    nucleotide: Rows,
    protein: Rows,
    folder: Path,
    *,
    task: Task | None = None,
) -> tuple[str, ...]:
    """Write the embeddings of all records, ``ROWS_PER_FILE`` a file, each file of one class.

    Parameters
    ----------
    records : DataFrame
        With the columns id and label.
    nucleotide, protein : Rows
        Their embeddings.
    folder : Path
        Gets ``viral/output_1_DNABERT_S.pt``, ``viral/output_1_ESM.pt``,
        ``viral_merged/output_1_merged.pt`` and so on, and the same with ``other``.
    task : Task, optional
        Is told how many records are written.

    Returns
    -------
    tuple of str
        The endings of what was written. ``*_DNABERT_S.pt`` is left out where the nucleotide
        embeddings are not of DNABERT-S's width: VirNucPro would take them for what they are not.
    """
    is_dnabert = nucleotide.dim == DNABERT_DIM
    for label, name in FOLDERS.items():
        ids = records.loc[records["label"] == label, "id"].tolist()
        for number, start in enumerate(range(0, len(ids), ROWS_PER_FILE), 1):
            part = ids[start : start + ROWS_PER_FILE]
            left, right = nucleotide.rows(part), protein.rows(part)
            stem = f"output_{number}"
            if is_dnabert:
                write_embeddings(folder / name / (stem + NUCLEOTIDE_ENDING), part, left)
            write_embeddings(folder / name / (stem + PROTEIN_ENDING), part, right)
            merged = folder / f"{name}_merged" / (stem + MERGED_ENDING)
            write_merged(merged, part, np.concatenate([left, right], axis=1), label=label)
            if task is not None:
                task.advance(len(part))
    return (*([NUCLEOTIDE_ENDING] if is_dnabert else []), PROTEIN_ENDING, MERGED_ENDING)
