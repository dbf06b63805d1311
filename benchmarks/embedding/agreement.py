"""Whether the engine computes what transformers computes, on the device at hand.

    python -m benchmarks.embedding.agreement --device cuda

Every check prints what was measured and its bound; the exit code is 1 if one is broken. Weights are
random, of a real shape; lengths are 1 to 1022 residues, and mixtures of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import typer

from benchmarks.embedding.contenders import embed_sorted
from benchmarks.embedding.workloads import build_engine, build_reference
from harness.embedding.esm.engine import Engine

Vectors = npt.NDArray[np.float32]

MAX_RELATIVE = 1e-4  # float32, of the largest value
MIN_COSINE = 0.9995  # half precision, against float32
MIXTURES = 12


def main(device: str = "cuda", model: str = "35M", mixtures: int = MIXTURES) -> None:
    """Run every check."""
    rng = np.random.default_rng(7)
    proteins = draw_mixtures(rng, mixtures)
    everything = [protein for mixture in proteins for protein in mixture]
    reference = build_reference(model, dtype="float32", device=device)
    exact = embed_sorted(reference, everything)
    is_gpu = torch.device(device).type == "cuda"
    checks = [check_float32(build(model, reference, "float32", device), everything, exact)]
    for dtype in ("bfloat16", "float16") if is_gpu else ("bfloat16",):
        engine = build(model, reference, dtype, device)
        checks.append(check_cosine(f"{dtype} against float32", engine, everything, exact))
        checks.append(check_neighbours(dtype, engine, proteins))
    if is_gpu:
        checks.append(check_full_memory(build(model, reference, "bfloat16", device), everything))
    if not all(checks):
        raise typer.Exit(1)


def build(model: str, reference: object, dtype: str, device: str) -> Engine:
    """Return the engine with the reference's weights."""
    return build_engine(model, reference, dtype=dtype, device=device)


def draw_mixtures(rng: np.random.Generator, n_mixtures: int) -> list[list[str]]:
    """Return lists of proteins: of one length, of any lengths, and of the extremes."""
    mixtures: list[list[str]] = [["A"], ["W" * 1022], ["A", "C" * 1022, "DE", "F" * 511]]
    for _ in range(n_mixtures):
        lengths = rng.integers(1, 1023, size=rng.integers(1, 40))
        mixtures.append(["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWYX"), n)) for n in lengths])
    return mixtures


def check_float32(engine: Engine, proteins: list[str], exact: Vectors) -> bool:
    """Compare element by element, relative to the largest value."""
    difference = np.abs(engine.embed(proteins) - exact).max() / np.abs(exact).max()
    what = f"float32, largest relative difference (at most {MAX_RELATIVE})"
    return say(what, difference, difference <= MAX_RELATIVE)


def check_cosine(name: str, engine: Engine, proteins: list[str], exact: Vectors) -> bool:
    """Compare the directions of the vectors."""
    smallest = cosines(engine.embed(proteins), exact).min()
    return say(f"{name}, smallest cosine (at least {MIN_COSINE})", smallest, smallest >= MIN_COSINE)


def check_neighbours(name: str, engine: Engine, mixtures: list[list[str]]) -> bool:
    """Compare the vectors of each mixture's first proteins with those that they have alone."""
    found = []
    for mixture in mixtures:
        alone = np.concatenate([engine.embed([protein]) for protein in mixture[:4]])
        found.append(cosines(engine.embed(mixture)[:4], alone).min())
    what = f"{name}, alone against together, smallest cosine (at least {MIN_COSINE})"
    return say(what, min(found), min(found) >= MIN_COSINE)


def check_full_memory(engine: Engine, proteins: list[str]) -> bool:
    """Leave half of what one batch of all takes: the budget is halved, the vectors stay."""
    budget = engine.token_budget = 1 << 20
    torch.cuda.reset_peak_memory_stats()
    before_bytes = torch.cuda.memory_allocated()
    expected = engine.embed(proteins)
    needed_bytes = torch.cuda.max_memory_allocated() - before_bytes
    torch.cuda.empty_cache()
    _, total_bytes = torch.cuda.mem_get_info()
    allowed_bytes = torch.cuda.memory_reserved() + needed_bytes // 2
    torch.cuda.set_per_process_memory_fraction(allowed_bytes / total_bytes)
    try:
        smallest = cosines(engine.embed(proteins), expected).min()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    went_on = engine.n_out_of_memory > 0 and smallest >= MIN_COSINE
    halved = f"budget {budget} to {engine.token_budget} tokens"
    what = f"full memory, {halved}, smallest cosine (at least {MIN_COSINE})"
    return say(what, smallest, went_on)


def cosines(left: Vectors, right: Vectors) -> npt.NDArray[np.float64]:
    """Return the cosine of each pair of rows."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / norms)


def say(what: str, measured: float, is_kept: bool) -> bool:
    """Print a check's outcome, and return it."""
    typer.echo(f"{'ok    ' if is_kept else 'BROKEN'} {what}: {measured:.7g}")
    return is_kept


if __name__ == "__main__":
    typer.run(main)
