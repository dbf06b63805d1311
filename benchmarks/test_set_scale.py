"""What reading, splitting and checking a test set costs at VirNucPro's size.

    python -m benchmarks.test_set_scale [ROWS ...]        default: 200000 2100000

Generated records of VirNucPro's shape are written as FASTA pairs with a taxonomy. A fresh process
then reads them, draws the test set and checks it, and each stage's seconds and the process's peak
memory so far are printed. It takes about 6 GB of disk and a few minutes.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.generate_records import generate_records
from harness.data.leakage import find_leaks
from harness.data.read import read_records
from harness.data.representativeness import compare_distributions
from harness.data.split import draw_split

DEFAULT_ROWS = (200_000, 2_100_000)
MOST_GENOMES = 12_000

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class Stopwatch:
    """Runs stages and keeps a line about each."""

    lines: list[str] = field(default_factory=list)
    total_seconds: float = 0.0

    def time(self, stage: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one stage; memory is the peak of the process so far, its input included."""
        start_seconds, start_processor = time.perf_counter(), time.process_time()
        result = call(*args, **kwargs)
        elapsed_seconds = time.perf_counter() - start_seconds
        processor_seconds = time.process_time() - start_processor
        peak_gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        self.total_seconds += elapsed_seconds
        self.lines.append(
            f"{stage:20s} {elapsed_seconds:7.1f} s  (processor {processor_seconds:6.1f} s)"
            f"  peak {peak_gigabytes:5.2f} GB"
        )
        return result


def main(arguments: list[str]) -> None:
    """Measure each number of rows in processes of its own."""
    for n_rows in [int(text) for text in arguments] or DEFAULT_ROWS:
        with tempfile.TemporaryDirectory(prefix="test-set-scale-") as folder:
            run_alone(write_input, n_rows, Path(folder))
            lines = run_alone(measure, Path(folder))
        sys.stdout.write("\n".join([f"{n_rows:,} records", *lines, "", ""]))


def run_alone(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a call in a fresh process, whose peak memory is then the call's own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(call, *args, **kwargs).result()


def write_input(n_rows: int, folder: Path) -> None:
    """Write generated records as two FASTA pairs and a taxonomy."""
    records = generate_records(n_rows, min(MOST_GENOMES, n_rows))
    for label, name in ((1, "viral"), (0, "nonviral")):
        rows = records[records["label"] == label]
        write_fasta(folder / f"{name}_nucleotide.fa", rows["id"], rows["nucleotides"])
        write_fasta(folder / f"{name}_protein.fa", rows["id"], rows["protein"])
    taxonomy = records[["accession", "lineage", "genome", "source_kind"]].drop_duplicates()
    taxonomy.to_csv(folder / "taxonomy.tsv", sep="\t", index=False)


def write_fasta(path: Path, ids: pd.Series, sequences: pd.Series) -> None:
    """Write one line of header and one of sequence for each row."""
    text = pa.large_string()
    parts = [">", pa.array(ids, type=text), "\n", pa.array(sequences, type=text), "\n", ""]
    scalars = [pa.scalar(part, text) if isinstance(part, str) else part for part in parts]
    entries = pa.chunked_array(pc.binary_join_element_wise(*scalars))
    with path.open("w", encoding="ascii") as file:
        for chunk in entries.chunks:
            file.writelines(chunk.to_pylist())


def measure(folder: Path) -> list[str]:
    """Read, split and check what ``write_input`` wrote."""
    watch = Stopwatch()
    records = watch.time(
        "read",
        read_records,
        [folder / "viral"],
        [folder / "nonviral"],
        taxonomy=folder / "taxonomy.tsv",
    ).records
    split = watch.time("split", draw_split, records)
    watch.time("integrity", find_leaks, records, split)
    is_test = split.masks(records["id"]).test
    watch.time("representativeness", compare_distributions, records, is_test)
    return [*watch.lines, f"{'all':20s} {watch.total_seconds:7.1f} s"]


if __name__ == "__main__":
    main(sys.argv[1:])
