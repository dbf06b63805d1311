"""The engine: sequences end to end against equal lengths, full memory, one compilation."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from harness.embedding.esm.building import build_encoder, build_engine
from harness.embedding.esm.checkpoint import open_checkpoint
from harness.embedding.esm.encoder import Attend, Encoder
from harness.embedding.esm.engine import Engine
from harness.errors import DeviceError

CPU = torch.device("cpu")
PROTEINS = ["MKV", "ACDEFGHIKLMNPQRSTVWY", "A", "MKVLAAGICW" * 3]
LENGTHS = st.lists(
    st.one_of(st.integers(1, 40), st.sampled_from([511, 1022])), min_size=1, max_size=6
)


@pytest.fixture(scope="module")
def engine(checkpoint_folder: Path) -> Engine:
    """Return the engine as it runs on a CPU."""
    return build_engine(open_checkpoint(checkpoint_folder), dtype="float32", device="cpu")


@pytest.fixture
def packed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Return the engine as on a GPU, with attention that the CPU can compute."""
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", attend_one_by_one)
    return Engine(engine.encoder, device=CPU, is_packed=True, token_budget=1_500)


def attend_one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts: torch.Tensor,
    key_starts: torch.Tensor,
    longest: int,
    longest_keys: int,
) -> torch.Tensor:
    """Compute what torch's variable-length attention promises, sequence by sequence."""
    assert starts is key_starts
    lengths = starts.diff()
    assert int(lengths.max()) == longest == longest_keys
    sequences = zip(*(torch.split(x, lengths.tolist()) for x in (query, key, value)), strict=True)
    attended = [
        functional.scaled_dot_product_attention(*(x.transpose(0, 1) for x in parts)).transpose(0, 1)
        for parts in sequences
    ]
    return torch.cat(attended)


class SmallMemory:
    """An encoder on a device that holds only so many tokens."""

    def __init__(self, encoder: Encoder, n_tokens: int) -> None:
        self.dim = encoder.dim
        self._encoder = encoder
        self._n_tokens = n_tokens

    def __call__(
        self, tokens: torch.Tensor, positions: torch.Tensor, attend: Attend
    ) -> torch.Tensor:
        """Encode, or fail as CUDA does."""
        if len(tokens) > self._n_tokens:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self._encoder(tokens, positions, attend)


def with_memory_for(engine: Engine, n_tokens: int, *, budget: int) -> Engine:
    """Return an engine whose device holds only so many tokens."""
    small: Any = SmallMemory(engine.encoder, n_tokens)
    return Engine(small, device=CPU, is_packed=False, token_budget=budget)


@settings(max_examples=15)
@given(lengths=LENGTHS, seed=st.integers(0, 100))
def test_embed_when_packed_then_as_in_equal_lengths(
    lengths: list[int], seed: int, engine: Engine
) -> None:
    """Lengths from 1 to 1022, and mixtures: no token sees or shifts a neighbour."""
    rng = np.random.default_rng(seed)
    proteins = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), n)) for n in lengths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.nn.attention.varlen.varlen_attn", attend_one_by_one)
        packed = Engine(engine.encoder, device=CPU, is_packed=True, token_budget=1_500)

        vectors = packed.embed(proteins)

    np.testing.assert_allclose(vectors, engine.embed(proteins), rtol=1e-4, atol=1e-5)


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

    with pytest.raises(DeviceError, match="one protein of 30 residues"):
        small.embed(PROTEINS)


def test_encoder_when_compiled_then_once_for_all_numbers_of_tokens(
    checkpoint_folder: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each half of a layer is traced whole, and once: batches of any size reuse it."""
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    compile_function = torch.compile
    monkeypatch.setattr(
        torch,
        "compile",
        lambda function, *, options, **settings: compile_function(
            function, backend=counter, **settings
        ),
    )
    torch._dynamo.reset()
    checkpoint = open_checkpoint(checkpoint_folder)
    weights = checkpoint.read_weights(dtype=torch.float32, device=CPU)
    encoder = build_encoder(weights, checkpoint.shape, is_compiled=True)
    compiled = Engine(encoder, device=CPU, is_packed=False, token_budget=engine.token_budget)

    for proteins in (PROTEINS, PROTEINS[:1], PROTEINS * 2):
        np.testing.assert_allclose(
            compiled.embed(proteins), engine.embed(proteins), rtol=1e-4, atol=1e-5
        )

    assert counter.frame_count == 2
