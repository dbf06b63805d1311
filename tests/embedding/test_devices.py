"""What a device is asked for, and how many tokens its memory holds.

One rank among several: its part, its GPU; and a process that is alone.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.embedding.devices import (
    CPU_TOKENS,
    GPU_TOKENS,
    SMALLEST_BUDGET,
    Ranks,
    fitting_budget,
    join_ranks,
    require_device,
)
from harness.errors import ConfigError, MissingInput


@pytest.mark.parametrize(("dtype", "is_refused"), [("bfloat16", True), ("float32", False)])
def test_require_device_when_there_is_no_triton_then_half_precision_is_refused(
    dtype: str, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slower operations in its place would be a silent fallback."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "triton", None)

    with pytest.raises(MissingInput, match="needs Triton") if is_refused else nullcontext():
        require_device("cuda", dtype)


@pytest.mark.parametrize(
    ("total_bytes", "expected"),
    [
        (4 * 1_000 * GPU_TOKENS, GPU_TOKENS),
        (4 * 1_000 * GPU_TOKENS - 1, GPU_TOKENS // 2),
        (1, SMALLEST_BUDGET),
    ],
)
def test_fitting_budget_when_it_is_a_gpu_then_a_quarter_of_its_memory_suffices(
    total_bytes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halved until it fits, and never below the longest protein."""
    properties = SimpleNamespace(total_memory=total_bytes)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)

    assert fitting_budget(torch.device("cuda"), 1_000) == expected


def test_fitting_budget_when_it_is_a_cpu_then_what_its_caches_hold() -> None:
    """A CPU's memory is not asked."""
    assert fitting_budget(torch.device("cpu"), 1 << 40) == CPU_TOKENS


@given(n_items=st.integers(0, 50), world_size=st.integers(1, 8))
def test_portion_of_all_ranks_then_every_item_once_and_evenly(
    n_items: int, world_size: int
) -> None:
    """No shard twice, none left out, and no rank with two more than another."""
    everyone = [Ranks(rank=rank, world_size=world_size) for rank in range(world_size)]
    parts = [ranks.portion(range(n_items)) for ranks in everyone]

    assert sorted(item for part in parts for item in part) == list(range(n_items))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert len(parts[0]) == max(map(len, parts))


def test_join_ranks_when_torchrun_did_not_start_it_then_alone() -> None:
    """Whatever else a cluster's scheduler sets."""
    with join_ranks({"WORLD_SIZE": "8", "RANK": "3"}) as ranks:
        assert ranks == Ranks()
        assert ranks.gather("mine") == ["mine"]
    with join_ranks({"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "1"}) as ranks:
        assert ranks.is_first


def test_claim_device_then_each_rank_has_the_gpu_of_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counted on its own host; on the CPU there is nothing to share out."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    ranks = Ranks(rank=3, local_rank=1, world_size=4)

    assert ranks.claim_device("cuda") == "cuda:1"
    assert chosen == [1]
    assert ranks.claim_device("cpu") == "cpu"
    assert Ranks().claim_device("cuda:1") == "cuda:1"


def test_claim_device_when_it_cannot_be_shared_out_then_it_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More ranks than GPUs, or one GPU named for all."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    ranks = Ranks(rank=2, local_rank=2, world_size=3)

    with pytest.raises(MissingInput, match="There are 2 GPUs, too few for process 2"):
        ranks.claim_device("cuda")
    with pytest.raises(ConfigError, match="expected 'cuda' for 3 processes, got 'cuda:0'"):
        ranks.claim_device("cuda:0")
