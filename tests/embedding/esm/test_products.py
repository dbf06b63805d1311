"""Linear layers in float8: near the exact ones, each row with a scale of its own."""

from __future__ import annotations

import torch

from harness.embedding.esm.products import Linear, apply_linear, to_float8


def draw(*shape: int, seed: int) -> torch.Tensor:
    """Return normal numbers in bfloat16."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def test_float8_when_compared_with_bfloat16_then_near() -> None:
    """Three bits of mantissa leave a few percent of a product's size."""
    inputs, exact = draw(7, 64, seed=1), Linear(draw(32, 64, seed=2), draw(32, seed=3))

    rounded = apply_linear(inputs, to_float8(exact)).float()

    expected = apply_linear(inputs, exact).float()
    assert (rounded - expected).norm() / expected.norm() < 0.05


def test_float8_when_rows_differ_in_size_then_small_ones_keep_their_precision() -> None:
    """A large token, and a large output, do not drown the others."""
    sizes = torch.tensor([1e-4, 1.0, 1e4])
    inputs = draw(3, 64, seed=4) * sizes[:, None].bfloat16()
    exact = Linear(draw(48, 64, seed=5), torch.zeros(48).bfloat16())
    exact.weight[:16] *= 1e3

    rounded = apply_linear(inputs, to_float8(exact)).float()

    expected = apply_linear(inputs, exact).float()
    for part in (slice(0, 16), slice(16, None)):
        errors = (rounded - expected)[:, part].norm(dim=1) / expected[:, part].norm(dim=1)
        assert (errors < 0.1).all()  # drowned, it would be 1


def test_float8_when_a_row_is_zero_then_it_stays_zero() -> None:
    """No division by zero."""
    exact = Linear(draw(16, 32, seed=6), torch.zeros(16).bfloat16())

    assert not apply_linear(torch.zeros(2, 32).bfloat16(), to_float8(exact)).any()
