"""How fast DNABERT-S embeds, and how exactly: its loop, equal lengths and ours, side by side.

``python -m benchmarks.dnabert_speed --device cuda`` takes weights of DNABERT-S's shape, random, but
with activations of the size that a trained post-norm model has: branches about as large as what
they are added to, attention that looks somewhere, and a few channels far larger than the others.
Sequences are 500 letters of the embedded data, turned, so that no two are alike.

- the loop: as VirNucPro calls its model, one sequence at a time, float32
- equal lengths: batches of 8,192 tokens in torch's plain operations, float32
- ours: ``DnabertEmbedder``, from text to vectors, in each dtype
- ours, split: float32 whose linear layers multiply three bfloat16 parts of each factor (six
  products, summed in float32), to see what that would gain
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from harness.config import RandomWeights
from harness.embedding.devices import equal_length_batches, measure_product_rate, to_device
from harness.embedding.dnabert import DnabertEmbedder, embed_plainly
from harness.embedding.dnabert_checkpoint import open_dnabert
from harness.embedding.esm.encoder import PLAIN, Linear
from harness.embedding.random_weights import write_dnabert

DATA = Path(__file__).parents[1] / "acceptance" / "data"
FULL = RandomWeights(layers=12, hidden_size=768, heads=12, intermediate_size=3072, seed=3)
N_COMPARED = 64
REPETITIONS = 3
EQUAL_LENGTHS_TOKENS = 8_192

# Standard deviations of a trained model's matrices, by the end of their names.
_SPREADS = {"Wqkv.weight": 0.05, "dense.weight": 0.05, "gated_layers.weight": 0.04}
_OTHER_SPREAD = 0.02

Vectors = npt.NDArray[np.float32]


class Rate(NamedTuple):
    """What one way of embedding reached."""

    name: str
    per_second: float
    share: float | None  # of the device's product rate
    median: float  # relative L2 to float64
    worst: float


def sequences() -> list[str]:
    """Return the embedded data's nucleotides."""
    files = (DATA / f"{name}_nucleotide.fa.gz" for name in ("viral", "nonviral"))
    records = (part for path in files for part in gzip.decompress(path.read_bytes()).split(b">"))
    return ["".join(r.decode().split("\n")[1:]) for r in records if r]


def turned(texts: list[str], n_texts: int) -> Iterator[str]:
    """Yield as many texts, each of those given turned by another number of letters each time."""
    for number in range(n_texts):
        text, by = texts[number % len(texts)], 7 * (number // len(texts))
        yield text[by:] + text[:by]


def write_checkpoint(folder: Path, texts: list[str], shape: RandomWeights) -> None:
    """Write weights with activations as large as a trained model's."""
    write_dnabert(folder, shape, texts)
    path, rng = folder / "model.safetensors", np.random.default_rng(1)
    weights = load_file(path)
    for name, value in weights.items():
        if value.ndim == 2:
            spread = next((s for end, s in _SPREADS.items() if name.endswith(end)), _OTHER_SPREAD)
            value *= spread / 0.02
            continue
        value += 0.1 * torch.from_numpy(rng.standard_normal(value.shape, dtype=np.float32))
        if "norm" in name.lower() and name.endswith("bias"):
            value[[7, 300 % len(value), 381 % len(value)]] += torch.tensor([6.0, -4.0, 3.0])
    save_file(weights, path)


class SplitProducts:
    """float32 products as sums of bfloat16 products, of three parts of each factor."""

    def __init__(self) -> None:
        self._weights: dict[int, torch.Tensor] = {}

    def multiply(self, inputs: torch.Tensor, linear: Linear) -> torch.Tensor:
        """Return a linear layer's outputs."""
        key = linear.weight.data_ptr()
        if key not in self._weights:
            one, two, three = self._split(linear.weight)
            self._weights[key] = torch.cat([one, two, one, two, three, one], dim=1)
        one, two, three = self._split(inputs)
        left = torch.cat([one, one, two, two, one, three], dim=1)
        product = torch.mm(left, self._weights[key].t(), out_dtype=torch.float32)
        return product if linear.bias is None else product.add_(linear.bias)

    def add_product(
        self, hidden: torch.Tensor, inputs: torch.Tensor, linear: Linear
    ) -> torch.Tensor:
        """Return hidden states plus a linear layer's outputs."""
        return self.multiply(inputs, linear).add_(hidden)

    @staticmethod
    def _split(values: torch.Tensor) -> list[torch.Tensor]:
        parts, rest = [], values
        for _ in range(3):
            parts.append(rest.bfloat16())
            rest = rest - parts[-1].float()
        return parts


class Bench:
    """The contenders on a device.

    Parameters
    ----------
    folder : Path
        The checkpoint.
    device : str
    texts : list of str
        The most that is embedded.
    """

    def __init__(self, folder: Path, device: str, texts: list[str]) -> None:
        self._folder, self._device, self._texts = folder, torch.device(device), texts
        checkpoint = open_dnabert(str(folder))
        self._shape = checkpoint.shape
        weights = checkpoint.read_weights()
        self._weights = {name: value.to(self._device) for name, value in weights.items()}
        self._tokens = DnabertEmbedder(str(folder)).tokenise(texts)
        exact = {name: value.double() for name, value in self._weights.items()}
        compared = range(min(N_COMPARED, len(texts)))
        self._expected = np.concatenate([self._plain(exact, [n]) for n in compared])

    def loop(self, n_texts: int) -> Rate:
        """Time VirNucPro's loop."""

        def run() -> Vectors:
            return np.concatenate([self._plain(self._weights, [n]) for n in range(n_texts)])

        return self._rate("loop, float32", run, n_texts, "float32")

    def equal_lengths(self, n_texts: int) -> Rate:
        """Time equal lengths."""
        lengths = np.array([len(ids) for ids in self._tokens[:n_texts]])

        def run() -> Vectors:
            vectors = np.empty((n_texts, self._shape["hidden_size"]), dtype=np.float32)
            for rows in equal_length_batches(lengths, EQUAL_LENGTHS_TOKENS):
                vectors[rows] = self._plain(self._weights, rows.tolist())
            return vectors

        return self._rate("equal lengths, float32", run, n_texts, "float32")

    def ours(self, dtype: str, n_texts: int, *, budget: int | None = None) -> Rate:
        """Time the embedder."""
        embedder = DnabertEmbedder(str(self._folder), dtype=dtype, device=str(self._device))
        name = f"ours, {dtype}" + (f", {budget:,} tokens a batch" if budget else "")
        if budget:
            embedder._runner.token_budget = budget
        return self._rate(name, lambda: self._embed(embedder, n_texts), n_texts, dtype)

    def split(self, n_texts: int) -> Rate:
        """Time the embedder with split products."""
        embedder = DnabertEmbedder(str(self._folder), device=str(self._device))
        products = SplitProducts()
        embedder._runner._encoder._arithmetic = PLAIN._replace(
            multiply=products.multiply, add_product=products.add_product
        )
        return self._rate(
            "ours, float32, split", lambda: self._embed(embedder, n_texts), n_texts, "float32"
        )

    def tokenise(self) -> float:
        """Return how many texts a second become tokens."""
        embedder = DnabertEmbedder(str(self._folder))
        started = time.perf_counter()
        embedder.tokenise(self._texts)
        return len(self._texts) / (time.perf_counter() - started)

    def profile(self) -> str:
        """Return where the GPU's time goes in bfloat16."""
        embedder = DnabertEmbedder(str(self._folder), dtype="bfloat16", device=str(self._device))
        self._embed(embedder, 8_192)
        with torch.profiler.profile() as profiler:
            self._embed(embedder, 8_192)
        return str(profiler.key_averages().table(sort_by="self_cuda_time_total", row_limit=14))

    def _embed(self, embedder: DnabertEmbedder, n_texts: int) -> Vectors:
        embedder._kept = [], []  # tokens are made anew
        return embedder.embed(self._texts[:n_texts])

    def _plain(self, weights: dict[str, torch.Tensor], rows: list[int]) -> Vectors:
        tokens = to_device(np.stack([self._tokens[row] for row in rows]), self._device)
        return np.asarray(embed_plainly(weights, self._shape, tokens).cpu().numpy())

    def _rate(self, name: str, run: Callable[[], Vectors], n_texts: int, dtype: str) -> Rate:
        vectors = run()[:N_COMPARED].astype(np.float64)
        seconds = []
        for _ in range(REPETITIONS):
            started = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - started)
        per_second = n_texts / float(np.median(seconds))
        expected = self._expected[: len(vectors)]
        apart = np.linalg.norm(vectors - expected, axis=1) / np.linalg.norm(expected, axis=1)
        peak = measure_product_rate(str(self._device), dtype)
        share = per_second * self._flop(n_texts) / n_texts / peak if peak else None
        return Rate(name, per_second, share, float(np.median(apart)), float(apart.max()))

    def _flop(self, n_texts: int) -> float:
        """Return the operations of the first texts, as ``DnabertEmbedder.flop`` counts them."""
        tokens = np.array([len(ids) for ids in self._tokens[:n_texts]], dtype=np.float64)
        dim, wide = self._shape["hidden_size"], self._shape["intermediate_size"]
        linear = 2 * (4 * dim**2 + 3 * dim * wide) * tokens.sum()
        return float(self._shape["num_hidden_layers"] * (linear + 4 * dim * (tokens**2).sum()))


def main() -> None:
    """Print a table of all contenders."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sequences", type=int, help="that ours embeds in half precision")
    parser.add_argument("--profile", action="store_true", help="show where the GPU's time goes")
    options = parser.parse_args()
    is_gpu = options.device.startswith("cuda")
    n_texts = options.sequences or (40_960 if is_gpu else 32)
    n_slow = min(n_texts, 8_192)
    data = sequences()
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), data, FULL)
        bench = Bench(Path(folder), options.device, list(turned(data, n_texts)))
        rates = [bench.loop(min(n_texts, N_COMPARED)), bench.equal_lengths(n_slow)]
        rates += [bench.ours("float32", n_slow)]
        if is_gpu:
            rates += [bench.split(n_slow)]
            rates += [bench.ours(dtype, n_texts) for dtype in ("bfloat16", "float16")]
            budgets = (8_192, 16_384, 65_536)
            rates += [bench.ours("bfloat16", n_texts, budget=budget) for budget in budgets]
        show(rates)
        sys.stdout.write(f"tokens alone: {bench.tokenise():,.0f} sequences/s\n")
        if options.profile and is_gpu:
            sys.stdout.write(bench.profile())


def show(rates: list[Rate]) -> None:
    """Print rates, each beside the loop and equal lengths."""
    loop, equal = rates[0].per_second, rates[1].per_second
    sys.stdout.write(
        "| way | sequences/s | x loop | x equal | of product rate | L2 median | L2 worst |\n"
    )
    sys.stdout.write("|---|---|---|---|---|---|---|\n")
    for each in rates:
        share = "" if each.share is None else f"{each.share:.0%}"
        sys.stdout.write(
            f"| {each.name} | {each.per_second:,.1f} | {each.per_second / loop:.2f} | "
            f"{each.per_second / equal:.2f} | {share} | {each.median:.1e} | {each.worst:.1e} |\n"
        )


if __name__ == "__main__":
    main()
