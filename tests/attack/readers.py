"""Every reader of files that others may have written, each with a small sound file to damage."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from harness.artifacts import ArtifactStore
from harness.config import load_config
from harness.data.fasta import read_fasta
from harness.data.genbank import read_genbank
from harness.data.read import read_table
from harness.data.split import Split, draw_split
from harness.data.taxonomy import read_taxonomy
from harness.data.testset import obtain_test_set
from harness.data.virnucpro import read_embeddings, read_merged, write_embeddings, write_merged
from harness.embedding import EmbeddingStore, KmerProfile, write_store
from harness.embedding.dnabert_checkpoint import open_dnabert
from harness.embedding.esm.checkpoint import open_checkpoint
from harness.embedding.random_weights import write_random_checkpoint
from harness.embedding.transformers_encoder import read_weights
from harness.embedding.virnucpro import ImportedEmbeddings, import_embeddings
from harness.pipeline.stages import read_metrics, read_predictions
from harness.training.checkpoints import load_head, load_snapshot, write_tensors
from harness.training.foreign import load_virnucpro
from harness.training.head import Head
from harness.verdict.history import read_history, remember
from harness.verdict.verdict import read_verdict
from tests.data.test_genbank import PHAGE
from tests.verdict.test_history import make_verdict
from tests.verdict.test_verdict import PERFECT, write_judged

__all__ = ["READERS", "Reader"]

IDS = [f"r{number}" for number in range(8)]
SEQUENCES = ["ACGTTGCA" * (2 + number) for number in range(8)]
RECORDS = pd.DataFrame(
    {
        "id": IDS,
        "nucleotides": SEQUENCES,
        "protein": [f"MKV{'ARND' * (number + 1)}" for number in range(8)],
        "label": np.array([0, 1] * 4, dtype=np.int8),
        "accession": [f"NC_{number}.1" for number in range(8)],
        "genome": [f"NC_{number}.1" for number in range(8)],
        "window": np.zeros(8, dtype=np.int32),
        "frame": "F1",
        "lineage": "",
        "source_kind": "",
    }
)
CONFIG = """seed = 1
device = "cpu"
[data]
viral = ["viral"]
nonviral = ["nonviral"]
test_fraction = "0.1"
[baseline]
name = "b"
model = "facebook/esm2"
[candidate]
name = "c"
[thresholds]
max_accuracy_drop_points = "5"
"""
SHAPE = {"layers": 1, "hidden_size": 8, "heads": 2, "intermediate_size": 8, "seed": 0}
DNABERT = {
    "model_type": "bert", "hidden_act": "gelu", "alibi_starting_size": 8, "hidden_size": 8,
    "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 16,
    "type_vocab_size": 2, "layer_norm_eps": 1e-12,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How a sound file is written into a folder, returning its path, and how it is read."""

    name: str
    write: Callable[[Path], Path]
    read: Callable[[Path], object]

    @property
    def is_json(self) -> bool:
        """Whether its file is a JSON document."""
        return self.name.endswith(".json")


def _text(name: str, content: str | bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)
        return folder / name

    return write


def _artifact(folder: Path) -> Path:
    built = ArtifactStore(folder).obtain("kind", {"seed": 1}, _fill)
    return built.path / "manifest.json"


def _fill(folder: Path) -> None:
    (folder / "file").write_text("text")


def _read_artifact(path: Path) -> object:
    store = ArtifactStore(path.parents[2])
    found = store.find("kind", lambda inputs: "seed" in inputs)
    return found, store.obtain("kind", {"seed": 1}, _fill)


def _store(name: str, folder: Path) -> Path:
    write_store(folder, IDS, SEQUENCES, KmerProfile(1))
    return folder / name


def _read_store(path: Path) -> object:
    return EmbeddingStore(path.parent, check_digests=False).rows(IDS[:2])


def _imported(name: str, folder: Path) -> Path:
    path = folder / "x_ESM.pt"
    write_embeddings(path, IDS, np.ones((8, 4), dtype=np.float32))
    import_embeddings([path], folder)
    return folder / name


def _embeddings(name: str, folder: Path) -> Path:
    write_embeddings(folder / name, IDS, np.ones((8, 768), dtype=np.float32))
    return folder / name


def _merged(folder: Path) -> Path:
    write_merged(folder / "x_merged.pt", IDS, np.ones((8, 12), dtype=np.float32), label=1)
    return folder / "x_merged.pt"


def _head(folder: Path) -> Path:
    facts = {"kind": "head", "recipe": {"dropout": "1/2"}, "seed": 1}
    write_tensors(folder / "head.safetensors", Head(4, hidden_dim=3).state_dict(), facts)
    return folder / "head.safetensors"


def _virnucpro_head(folder: Path) -> Path:
    torch.save({"model_state_dict": Head(4, hidden_dim=3).state_dict()}, folder / "head.pth")
    return folder / "head.pth"


def _snapshot(folder: Path) -> Path:
    facts = {"kind": "training state", "origin": "x", "steps_done": 0, "trained_seconds": 0.5}
    tensors = {"losses": torch.zeros(1, 2), "weights.1.w": torch.ones(2)}
    path = folder / "state.safetensors"
    write_tensors(path, tensors, facts | {"histories": {"1": []}})
    return path


def _checkpoint(name: str, folder: Path) -> Path:
    n_shards = 2 if "index" in name else 1
    write_random_checkpoint(folder, **SHAPE, n_shards=n_shards)  # type: ignore[arg-type]
    return next(folder.glob(name))


def _verdict(folder: Path) -> Path:
    (folder / "head").write_text("weights")
    known = {"test_viral": 10, "test_nonviral": 10, "n_test": 20, "looks": 1}
    return write_judged(folder / "head", candidate=PERFECT, split=known)


def _history(folder: Path) -> Path:
    inner = folder / "set"
    inner.mkdir(exist_ok=True)
    remember(make_verdict(inner))
    return inner / "verdicts.jsonl"


def _table(name: str, table: pd.DataFrame, folder: Path) -> Path:
    path = folder / name
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    return path


def _split(name: str, folder: Path) -> Path:
    draw_split(RECORDS, test_fraction="0.25", validation_fraction="0.25").save(folder)
    return folder / name


def _test_set(folder: Path) -> Path:
    _obtain_test_set(folder / "manifest.json")
    return folder / "manifest.json"


def _obtain_test_set(path: Path) -> object:
    return obtain_test_set(RECORDS, path.parent, test_fraction="0.25", validation_fraction="0.25")


SCORES = pd.DataFrame({"id": IDS, "score": np.linspace(0, 1, 8)})
FASTA = "".join(f">{name}\n{sequence}\n" for name, sequence in zip(IDS, SEQUENCES, strict=True))
METRICS = json.dumps({"accuracy": 0.9048, "n": 210000, "recall": 0.9})
READERS = (
    Reader(name="gate.toml", write=_text("gate.toml", CONFIG), read=load_config),
    Reader(
        name="gate.json",
        write=lambda folder: _text(
            "gate.json", json.dumps(load_config(_text("g.toml", CONFIG)(folder)).to_dict())
        )(folder),
        read=load_config,
    ),
    Reader(name="verdict.json", write=_verdict, read=read_verdict),
    Reader(name="verdicts.jsonl", write=_history, read=lambda path: read_history(path.parent)),
    Reader(name="artifact.json", write=_artifact, read=_read_artifact),
    Reader(name="store.json", write=partial(_store, "embeddings.json"), read=_read_store),
    Reader(name="store index", write=partial(_store, "index.parquet"), read=_read_store),
    Reader(name="shard", write=partial(_store, "shard-000000.safetensors"), read=_read_store),
    Reader(
        name="imported index",
        write=partial(_imported, "index.parquet"),
        read=lambda path: ImportedEmbeddings(path.parent).rows(IDS[:2]),
    ),
    Reader(
        name="imported part",
        write=partial(_imported, "part-00000.npy"),
        read=lambda path: ImportedEmbeddings(path.parent).rows(IDS[:2]),
    ),
    Reader(name="DNABERT_S.pt", write=partial(_embeddings, "x_DNABERT_S.pt"), read=read_embeddings),
    Reader(name="ESM.pt", write=partial(_embeddings, "x_ESM.pt"), read=read_embeddings),
    Reader(name="merged.pt", write=_merged, read=read_merged),
    Reader(name="head.safetensors", write=_head, read=load_head),
    Reader(name="head.pth", write=_virnucpro_head, read=load_virnucpro),
    Reader(
        name="training state",
        write=_snapshot,
        read=lambda path: load_snapshot(path.parent, origin="x"),
    ),
    Reader(
        name="ESM config.json",
        write=partial(_checkpoint, "config.json"),
        read=lambda path: open_checkpoint(path.parent),
    ),
    Reader(
        name="ESM vocabulary",
        write=partial(_checkpoint, "vocab.txt"),
        read=lambda path: open_checkpoint(path.parent),
    ),
    Reader(
        name="ESM index.json",
        write=partial(_checkpoint, "*.index.json"),
        read=lambda path: open_checkpoint(path.parent),
    ),
    Reader(
        name="ESM weights",
        write=partial(_checkpoint, "model.safetensors"),
        read=lambda path: open_checkpoint(path.parent).read_weights(
            dtype=torch.float32, device=torch.device("cpu")
        ),
    ),
    Reader(
        name="DNABERT config.json",
        write=lambda folder: (
            _text("model.safetensors", b"")(folder),
            _text("config.json", json.dumps(DNABERT))(folder),
        )[1],
        read=lambda path: open_dnabert(str(path.parent)),
    ),
    Reader(
        name="weights",
        write=partial(_checkpoint, "model.safetensors"),
        read=lambda path: read_weights([path]),
    ),
    Reader(
        name="scores.csv",
        write=partial(_table, "scores.csv", SCORES),
        read=read_predictions,
    ),
    Reader(
        name="scores.csv.gz",
        write=partial(_table, "scores.csv.gz", SCORES),
        read=read_predictions,
    ),
    Reader(
        name="scores.parquet",
        write=partial(_table, "scores.parquet", SCORES),
        read=read_predictions,
    ),
    Reader(name="metrics.json", write=_text("metrics.json", METRICS), read=read_metrics),
    Reader(
        name="records.csv",
        write=partial(_table, "records.csv", RECORDS[RECORDS["label"] == 1]),
        read=partial(read_table, label=1),
    ),
    Reader(
        name="records.parquet",
        write=partial(_table, "records.parquet", RECORDS[RECORDS["label"] == 1]),
        read=partial(read_table, label=1),
    ),
    Reader(name="FASTA", write=_text("x.fa", FASTA), read=read_fasta),
    Reader(
        name="FASTA gzip", write=_text("x.fa.gz", gzip.compress(FASTA.encode())), read=read_fasta
    ),
    Reader(name="GenBank", write=_text("x.gb", PHAGE), read=lambda path: list(read_genbank(path))),
    Reader(
        name="taxonomy",
        write=_text("t.tsv", "accession\tlineage\nNC_1.1\tMicroviridae\nNC_2.1\tBacteria\n"),
        read=read_taxonomy,
    ),
    Reader(
        name="split.json",
        write=partial(_split, "split.json"),
        read=lambda path: Split.load(path.parent),
    ),
    Reader(
        name="split table",
        write=partial(_split, "split.parquet"),
        read=lambda path: Split.load(path.parent),
    ),
    Reader(name="test set.json", write=_test_set, read=_obtain_test_set),
)
