"""The oracle: transformers' own model sees what the engine would get wrong, and nothing else.

Models with random weights, shaped so that it matters: attention is sharp, layers add as much as
there was, and two dimensions of the vectors are 40 times the median, as in real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.criteria.same_vector import LARGEST_RELATIVE_L2, relative_l2
from harness.embedding.esm.embedder import EsmEmbedder
from harness.embedding.esm.engine import EqualLengths
from harness.embedding.random_weights import write_random_checkpoint

LAYERS = 4
PROTEINS = ["M", "MKV", "ACDEFGHIKLMNPQRSTVWYBZX" * 4, "MKVLAAGIVGLCAKAYLEHPLDQ" * 9]
TABLE = "esm.encoder.layer.{}.attention.self.rotary_embeddings.inv_freq"

TABLE = "esm.encoder.layer.{}.attention.self.rotary_embeddings.inv_freq"

Weights: TypeAlias = dict[str, torch.Tensor]
Write: TypeAlias = Callable[..., EsmEmbedder]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return what writes a model's checkpoint, changed as told, and loads it."""

    def write_and_load(
        change: Callable[[Weights], Mapping[str, torch.Tensor]] = dict, **settings: Any
    ) -> EsmEmbedder:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        shape = {"layers": LAYERS, "hidden_size": 32, "heads": 2, "intermediate_size": 64}
        write_random_checkpoint(folder, **{**shape, "seed": 1, **settings})
        path = folder / "model.safetensors"
        save_file(dict(change(enliven(load_file(path)))), path, metadata={"format": "pt"})
        return EsmEmbedder(str(folder))

    return write_and_load


def enliven(weights: Weights) -> Weights:
    """Return weights whose layers matter, and whose vectors have two huge dimensions."""
    enlarged = {
        n: w * 12 if w.ndim == 2 and w.is_floating_point() else w for n, w in weights.items()
    }
    last = "esm.encoder.emb_layer_norm_after.weight"
    enlarged[last] = enlarged[last].index_fill(0, torch.tensor([3, 11]), 40.0)
    return enlarged


def difference(found: npt.NDArray[np.float32], honest: EsmEmbedder) -> float:
    """Return the largest relative L2 of rows and an honest model's reference."""
    return float(relative_l2(found, honest.reference(PROTEINS)[1]).max())


def test_reference_when_the_engine_is_right_then_the_rows_are_near(write: Write) -> None:
    """By a tenth of what is allowed, one residue and marks for unknown ones included."""
    found, expected = write().reference(PROTEINS)

    sizes = np.abs(expected).mean(axis=0)
    assert relative_l2(found, expected).max() < LARGEST_RELATIVE_L2 / 10
    assert sorted(sizes.argsort()[-2:]) == [3, 11]
    assert sizes[[3, 11]].min() > 20 * np.median(sizes)


def test_reference_when_the_run_is_in_half_precision_then_both_rows_are_in_float32(
    write: Write,
) -> None:
    """What the weights stand for is one question, rounding another."""
    honest = write()
    half = EsmEmbedder(str(honest._checkpoint.folder), dtype="bfloat16")

    assert np.array_equal(half.reference(PROTEINS)[1], honest.reference(PROTEINS)[1])


def perturbed(weights: Weights) -> Weights:
    """Return weights that are off by a thousandth each."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: w * (1 + 0.001 * torch.randn(w.shape, generator=generator)) if w.ndim == 2 else w
        for name, w in weights.items()
        if w.is_floating_point()
    }


@pytest.mark.parametrize(
    "fault",
    [{"change": perturbed}, {"seed": 2}, {"layers": LAYERS - 1}],
    ids=["weights off by .1%", "another revision", "a layer missing"],
)
def test_reference_when_other_weights_are_computed_with_then_it_is_seen(
    write: Write, fault: dict[str, Any]
) -> None:
    """The engine of one checkpoint beside transformers' model of another."""
    assert difference(write(**fault).embed(PROTEINS), write()) > 2 * LARGEST_RELATIVE_L2


def test_reference_when_begin_and_end_are_pooled_in_then_it_is_seen(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mean over all tokens, where residues are asked for."""
    honest = write()

    def pool_all(self: EqualLengths, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.view(self._n_sequences, -1, hidden.shape[1]).mean(dim=1)

    monkeypatch.setattr(EqualLengths, "pool", pool_all)
    found, expected = honest.reference(PROTEINS)

    assert relative_l2(found, expected).min() > 2 * LARGEST_RELATIVE_L2


def rounded_tables(weights: Weights) -> Weights:
    """Return weights with rotary tables in half precision, as real checkpoints have them."""
    tables = {n: w.half().float() for n, w in weights.items() if n.endswith("inv_freq")}
    return weights | tables


def differing_tables(weights: Weights) -> Weights:
    """Return weights with another rotary table in each layer."""
    tables = {TABLE.format(n): weights[TABLE.format(n)] * (1 + n / 20) for n in range(LAYERS)}
    return weights | tables


def test_reference_when_rotary_tables_are_computed_instead_of_read_then_it_is_seen(
    write: Write,
) -> None:
    """Those of real checkpoints are rounded; a checkpoint without them is computed with."""
    without = write(lambda w: {n: x for n, x in w.items() if not n.endswith("inv_freq")})
    real = write(rounded_tables)

    assert difference(without.embed(PROTEINS), real) > LARGEST_RELATIVE_L2
    assert difference(real.embed(PROTEINS), real) < LARGEST_RELATIVE_L2 / 10


def test_reference_when_each_layer_has_its_own_rotary_table_then_both_use_it(write: Write) -> None:
    """Transformers keeps one for all layers, where the file may have several."""
    own, shared = write(differing_tables), write()

    assert difference(own.embed(PROTEINS), own) < LARGEST_RELATIVE_L2 / 10
    assert difference(shared.embed(PROTEINS), own) > LARGEST_RELATIVE_L2
