"""Small files that ask for much: ``python -m tests.attack.bombs`` reads each within bounds.

It prints the most memory that was taken beyond the readers' libraries, and exits 1 if a file was
read, took over 5 s or a gigabyte, or was refused by anything but an error of the project.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import resource
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from harness.data.fasta import read_fasta
from harness.data.read import read_table
from harness.data.unpickle import load_restricted
from harness.embedding.dnabert_checkpoint import open_dnabert
from harness.embedding.esm.checkpoint import open_checkpoint
from harness.errors import HarnessError
from harness.pipeline.stages import read_metrics, read_predictions
from harness.training.checkpoints import load_head, write_tensors
from harness.training.foreign import load_virnucpro
from harness.training.head import Head
from harness.verdict.verdict import authorise, read_verdict
from tests.attack.fuzz import MEMORY_BYTES, bounded, limit_memory
from tests.attack.readers import DNABERT, METRICS, READERS

__all__ = ["main"]

Bomb = tuple[Path, Callable[[Path], object]]
LARGEST_BYTES = 100_000
HUGE = 10**8


def main() -> int:
    """Read each file; return how many were not refused as they should be."""
    with TemporaryDirectory() as place:
        bombs = list(_write_all(Path(place)))
        for reader in READERS:
            (Path(place) / reader.name).mkdir()
            reader.read(reader.write(Path(place) / reader.name))
        limit_memory()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = [problem for path, read in bombs if (problem := _problem(path, read))]
        taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    sys.stdout.write(f"{len(bombs)} files, {taken / 1e6:.0f} MB at most\n" + "\n".join(found))
    return len(found) + (taken > MEMORY_BYTES)


def _problem(path: Path, read: Callable[[Path], object]) -> str:
    if path.is_file() and path.stat().st_size > LARGEST_BYTES:
        return f"{path.name}: has {path.stat().st_size} bytes"
    try:
        with bounded():
            read(path)
    except HarnessError as error:
        return "" if str(path.parent) in str(error) else f"{path.name}: not named in {error}"
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
        return f"{path.name}: {error!r}"
    return f"{path.name}: was read"


def _write_all(folder: Path) -> Iterator[Bomb]:
    yield from _pickles(folder)
    yield from _tables(folder)
    yield from _heads(folder)
    yield from _configurations(folder)
    yield from _endless(folder)


def _pickles(folder: Path) -> Iterator[Bomb]:
    codes = {
        "memo": b"\x80\x02]r\xff\xff\xff\x7f.",
        "bytearray": b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + struct.pack("<q", 10**11)[:5]
        + b"\x85R.",
        "tuples": b"\x80\x02}" + b")" + b"\x85" * 90_000 + b"K\x01s.",
        "shared": b"\x80\x02}X\x04\0\0\0data" + b"]" + b"q\x01h\x01h\x01\x86" * 60 + b"s.",
    }  # fmt: skip
    for name, code in codes.items():
        path = folder / f"{name}.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", code)
            archive.writestr("archive/version", "3\n")
        yield path, READERS[[reader.name for reader in READERS].index("merged.pt")].read
        (folder / f"{name}.legacy.pt").write_bytes(pickle.dumps(1) + code)
        yield folder / f"{name}.legacy.pt", load_restricted
    with zipfile.ZipFile(folder / "packed.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02]." + bytes(50_000_000))
    yield folder / "packed.pt", load_restricted


def _tables(folder: Path) -> Iterator[Bomb]:
    rows = pa.array(np.zeros(20_000_000, dtype=np.int32))
    ids = pa.DictionaryArray.from_arrays(rows, ["x" * 60_000])
    for name, column in (("rows", rows), ("texts", ids)):
        pq.write_table(pa.table({"id": column, "score": rows}), folder / f"{name}.parquet")
        yield folder / f"{name}.parquet", read_predictions
        yield folder / f"{name}.parquet", lambda path: read_table(path, label=1)
    packed = gzip.compress(b">x\n" + b"A" * 80_000_000)
    for name, read in (("x.fa", read_fasta), ("scores.csv.gz", read_predictions)):
        (folder / name).write_bytes(packed)
        yield folder / name, read
    (folder / "twice.csv").write_text("id,score,score\na,0,1\n", encoding="utf-8")
    yield folder / "twice.csv", read_predictions
    (folder / "ids.csv").write_text("id,id,nucleotides,protein\na,b,A,M\n", encoding="utf-8")
    yield folder / "ids.csv", lambda path: read_table(path, label=1)


def _heads(folder: Path) -> Iterator[Bomb]:
    weights = Head(4, hidden_dim=3).state_dict()
    wide = torch.zeros(1).as_strided((HUGE, 512), (0, 0))
    torch.save({"model_state_dict": {**weights, "hidden_layer.weight": wide}}, folder / "wide.pth")
    yield folder / "wide.pth", load_virnucpro
    for name, tensor in (("nan", [float("nan")] * 3), ("infinite", [float("inf")] * 3),
                         ("negative", [-1.0] * 3)):  # fmt: skip
        path = folder / f"{name}.safetensors"
        changed = {**weights, "bn1.running_var": torch.tensor(tensor)}
        write_tensors(path, changed, {"kind": "head", "recipe": {"dropout": "0.5"}})
        yield path, load_head
        torch.save({"model_state_dict": changed}, folder / f"{name}.pth")
        yield folder / f"{name}.pth", load_virnucpro
    recipes: dict[str, object] = {
        "missing": {}, "digits": {"dropout": "0." + "9" * 50_000},
        "exponent": {"dropout": "1e999999999"}, "one": {"dropout": "1"},
    }  # fmt: skip
    for name, recipe in recipes.items():
        path = folder / f"dropout {name}.safetensors"
        write_tensors(path, weights, {"kind": "head", "recipe": recipe})
        yield path, load_head
    write_tensors(folder / "no recipe.safetensors", weights, {"kind": "head"})
    yield folder / "no recipe.safetensors", load_head


def _configurations(folder: Path) -> Iterator[Bomb]:
    esm = READERS[[reader.name for reader in READERS].index("ESM config.json")]
    (folder / "esm").mkdir()
    path = esm.write(folder / "esm")
    sound = json.loads(path.read_text(encoding="utf-8"))
    wrong = {"num_hidden_layers": HUGE, "num_attention_heads": 0, "layer_norm_eps": None}
    for key, value in wrong.items():
        for kind, table in (("esm", sound), ("dnabert", DNABERT)):
            place = folder / f"{kind} {key}"
            place.mkdir()
            (place / "model.safetensors").touch()
            (place / "config.json").write_text(json.dumps({**table, key: value}), encoding="utf-8")
            read = open_checkpoint if kind == "esm" else lambda inner: open_dnabert(str(inner))
            yield place, read
    for number in ("1e999999999", "9" * 90_000, "1e-999999999"):
        path = folder / f"metrics {number[:12]}.json"
        path.write_text(METRICS.replace("0.9048", number), encoding="utf-8")
        yield path, read_metrics


def _endless(folder: Path) -> Iterator[Bomb]:
    os.mkfifo(folder / "pipe")
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "head").write_bytes(b"weights")
    for path in (folder / "pipe", folder / "zero"):
        yield path, read_verdict
        yield path, read_fasta
        yield path, load_restricted
        yield path, lambda place: authorise(place, folder / "verdict.json")
        yield path, lambda place: authorise(folder / "head", place)


if __name__ == "__main__":
    sys.exit(main())
