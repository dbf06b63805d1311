"""How far real weights' vectors move in each dtype: the engine and transformers, against float64.

    python tools/real_weights.py            # downloads the weights into work/real, runs the gate
    python -m benchmarks.real_weights work/real/esm2_t6_8M --device cuda

Prints a table in markdown. The reference is transformers' model in float64, on the CPU, with the
checkpoint's rotary tables; 300 proteins of the embedded data set, and some of 1 to 1,022 residues.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import typer
from transformers import EsmModel

from harness.data.fasta import read_fasta
from harness.embedding import load_embedder
from harness.embedding.devices import require_device
from harness.embedding.esm.alphabet import tokenise
from harness.embedding.esm.checkpoint import EsmCheckpoint, open_checkpoint
from harness.embedding.esm.engine import DTYPES
from harness.embedding.esm.reference import build_transformers_model

DATA = Path(__file__).parents[1] / "acceptance" / "data"
LENGTHS = (1, 2, 3, 5, 8, 13, 30, 80, 300, 700, 1022)

Vectors = npt.NDArray[np.float64]


def main(folder: Path, device: str = "cuda") -> None:
    """Print the table of one checkpoint."""
    require_device(device)
    checkpoint, proteins = open_checkpoint(folder), choose_proteins()
    exact = embed(build(checkpoint, torch.float64, "cpu"), proteins)
    where = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else "CPU"
    typer.echo(f"{folder.name}, {len(proteins)} proteins, {where}, torch {torch.__version__}\n")
    typer.echo("| dtype | by | median relative L2 | worst | smallest cosine |")
    typer.echo("|---|---|---:|---:|---:|")
    for dtype, torch_dtype in DTYPES.items():
        ours = load_embedder(str(folder), dtype=dtype, device=device).embed(proteins)
        typer.echo(describe(dtype, "engine", ours.astype(np.float64), exact))
        theirs = embed(build(checkpoint, torch_dtype, device), proteins)
        typer.echo(describe(dtype, "transformers", theirs, exact))


def choose_proteins() -> list[str]:
    """Return proteins of the embedded data, and of some lengths that it lacks."""
    found: list[str] = []
    for label in ("viral", "nonviral"):
        found += read_fasta(DATA / f"{label}_protein.fa.gz")["sequence"].to_pylist()
    text = "".join(found)
    return found[:: len(found) // 300][:300] + [text[:length] for length in LENGTHS]


def build(checkpoint: EsmCheckpoint, dtype: torch.dtype, device: str) -> EsmModel:
    """Return transformers' model of a checkpoint in a dtype."""
    weights = checkpoint.read_weights(dtype=torch.float32, device=torch.device(device))
    tables = {name: tensor for name, tensor in weights.items() if "inv_freq" in name}
    rest = {name: tensor.to(dtype) for name, tensor in weights.items() if name not in tables}
    return build_transformers_model(rest | tables, checkpoint.shape)


@torch.no_grad()
def embed(model: EsmModel, proteins: list[str]) -> Vectors:
    """Return the mean hidden state of each protein's residues, one protein at a time."""
    rows = []
    for protein in proteins:
        tokens = torch.from_numpy(tokenise([protein]).tokens).long().to(model.device)[None]
        hidden = model(input_ids=tokens).last_hidden_state
        rows.append(hidden[0, 1:-1].double().mean(dim=0).cpu().numpy())
    return np.stack(rows)


def describe(dtype: str, by: str, found: Vectors, exact: Vectors) -> str:
    """Return a row of the table."""
    distances = np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(exact, axis=1)
    cosine = ((found * exact).sum(axis=1) / norms).min()
    return f"| {dtype} | {by} | {np.median(distances):.1e} | {distances.max():.1e} | {cosine:.6f} |"


if __name__ == "__main__":
    typer.run(main)
