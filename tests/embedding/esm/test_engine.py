"""The engine: sequences end to end against equal lengths, and full memory."""

from __future__ import annotations

import logging
import platform
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.embedding.esm.checkpoint import open_checkpoint
from harness.embedding.esm.encoder import PLAIN, Attend, Encoder
from harness.embedding.esm.engine import (
    DTYPES,
    Engine,
    assemble_engine,
    build_encoder,
    build_engine,
)
from harness.errors import DeviceError

CPU = torch.device("cpu")
PROTEINS = ["MKV", "ACDEFGHIKLMNPQRSTVWY", "A", "MKVLAAGICW" * 3]
LENGTHS = st.lists(st.integers(1, 70), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def engine(checkpoint_folder: Path) -> Engine:
    """Return the engine as it runs on a CPU."""
    return build_engine(open_checkpoint(checkpoint_folder), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def packed(checkpoint_folder: Path) -> Engine:
    """Return the engine as on a GPU; Triton's interpreter runs its kernels."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("no Triton is installed on other platforms")
    checkpoint = open_checkpoint(checkpoint_folder)
    weights = checkpoint.read_weights(dtype=torch.float32, device=CPU)
    encoder = build_encoder(weights, checkpoint.shape, is_fused=True)
    return Engine(encoder, device=CPU, is_packed=True, token_budget=1_500)


class SmallMemory:
    """An encoder on a device that holds only so many tokens."""

    def __init__(self, encoder: Encoder, n_tokens: int) -> None:
        self.dim = encoder.dim
        self._encoder = encoder
        self._n_tokens = n_tokens

    def __call__(self, tokens: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Encode, or fail as CUDA does."""
        if len(tokens) > self._n_tokens:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self._encoder(tokens, attend)


def with_memory_for(engine: Engine, n_tokens: int, *, budget: int) -> Engine:
    """Return an engine whose device holds only so many tokens."""
    small: Any = SmallMemory(engine.encoder, n_tokens)
    return Engine(small, device=CPU, is_packed=False, token_budget=budget)


@settings(max_examples=3)
@given(lengths=LENGTHS, seed=st.integers(0, 100))
def test_embed_when_packed_then_as_in_equal_lengths(
    lengths: list[int], seed: int, engine: Engine, packed: Engine
) -> None:
    """Mixtures of lengths: no token sees or shifts a neighbour."""
    rng = np.random.default_rng(seed)
    proteins = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), n)) for n in lengths]

    vectors = packed.embed(proteins)

    np.testing.assert_allclose(vectors, engine.embed(proteins), rtol=1e-4, atol=1e-5)


def test_embed_padded_when_computed_by_kernels_then_the_same(
    engine: Engine, packed: Engine
) -> None:
    """The plain way is timed beside the other on a GPU, with the same arithmetic."""
    padded = packed.embed_padded(PROTEINS, batch_size=2)

    np.testing.assert_allclose(padded, engine.embed(PROTEINS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "is_packed", "stored"),
    [
        ("float32", False, torch.float32),
        ("bfloat16", True, torch.bfloat16),
    ],
)
def test_engine_when_it_is_for_a_gpu_then_computes_as_asked(
    dtype: str, is_packed: bool, stored: torch.dtype, checkpoint_folder: Path, packed: Engine
) -> None:
    """Half precision by kernels and end to end, float32 in neither way."""
    from harness.embedding.esm.kernels import FUSED

    checkpoint = open_checkpoint(checkpoint_folder)
    weights = checkpoint.read_weights(dtype=DTYPES[dtype], device=CPU)
    engine = assemble_engine(
        weights, checkpoint.shape, dtype=dtype, device="cuda:1", token_budget=9
    )

    assert engine.is_packed is is_packed
    assert engine.encoder._arithmetic is (FUSED if is_packed else PLAIN)
    assert engine.encoder._layers[0].qkv.weight.dtype == stored


def test_embed_when_there_are_several_gpus_then_kernels_are_launched_on_its_own(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton launches on the current GPU, not on that of its tensors."""
    entered: list[torch.device] = []

    def enter(place: torch.device) -> AbstractContextManager[None]:
        entered.append(place)
        return nullcontext()

    monkeypatch.setattr("torch.cuda.device", enter)
    second = torch.device("cuda", 1)
    elsewhere = Engine(engine.encoder, device=second, is_packed=False, token_budget=9)

    elsewhere.embed([])
    elsewhere.embed_padded([], batch_size=2)

    assert entered == [second, second]


def test_embed_when_there_is_nothing_then_there_are_no_vectors(
    engine: Engine, packed: Engine
) -> None:
    """An empty list is no error."""
    assert engine.embed([]).shape == packed.embed([]).shape == (0, 16)


def test_embed_when_memory_is_full_then_smaller_batches_give_the_same(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The budget is halved until a batch fits, and the log says so."""
    proteins = ["ACDEF", "MKVLA"] * 20
    small = with_memory_for(engine, 70, budget=256)

    with caplog.at_level(logging.WARNING):
        vectors = small.embed(proteins)

    assert (small.token_budget, small.n_out_of_memory) == (64, 2)
    assert "cpu ran out of memory: going on with 64 tokens a batch" in caplog.text
    np.testing.assert_allclose(vectors, engine.embed(proteins), rtol=1e-5, atol=1e-6)


def test_embed_when_memory_is_too_small_for_one_protein_then_it_is_named(engine: Engine) -> None:
    """There is nothing left to halve."""
    small = with_memory_for(engine, 10, budget=64)

    with pytest.raises(DeviceError, match="one sequence of 32 tokens"):
        small.embed(PROTEINS)
