"""The GPU's kernels compute what torch's operations compute; Triton's interpreter runs them.

The kernels compile for a Hopper GPU, which takes Triton and no GPU.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from itertools import accumulate

import pytest
import torch
from torch.nn import functional

from harness.embedding.esm.encoder import (
    PLAIN,
    Arithmetic,
    Layer,
    Linear,
    Norm,
    Rotation,
    Slopes,
)
from harness.embedding.esm.engine import EqualLengths

pytestmark = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="no Triton is installed on other platforms",
)


@pytest.fixture(scope="module")
def fused() -> Arithmetic:
    """Return the kernels' arithmetic."""
    from harness.embedding.esm.kernels import FUSED

    return FUSED


def draw(*shape: int, seed: int) -> torch.Tensor:
    """Return normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def draw_norm(dim: int, *, shift: torch.Tensor | None = None) -> Norm:
    """Return a normalisation of random weights."""
    return Norm(draw(dim, seed=1), draw(dim, seed=2), 1e-5, shift)


def draw_rotation(n_channels: int) -> Rotation:
    """Return angles unlike those of any model."""
    angles = draw(1024, n_channels // 2, seed=3)
    return Rotation(angles.cos(), angles.sin())


@pytest.mark.parametrize("is_turned", [True, False])
@pytest.mark.parametrize(
    ("lengths", "n_heads", "n_channels"),
    [([5, 70, 1, 64, 129], 2, 64), ([3, 65], 3, 24), ([1024], 1, 16)],
)
def test_attend_then_each_sequence_as_on_its_own(
    *, is_turned: bool, lengths: list[int], n_heads: int, n_channels: int
) -> None:
    """Whatever the sizes of the tiles, from one token to the most there are; turned or sloped."""
    from harness.embedding.esm.kernels import attend

    slopes = Slopes(torch.tensor([0.5, 0.01, 0.1][:n_heads]))
    positions = draw_rotation(n_channels) if is_turned else slopes
    qkv = draw(sum(lengths), 3, n_heads, n_channels, seed=4)
    expected = [EqualLengths(1).attend(part, positions) for part in torch.split(qkv, lengths)]

    starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    found = attend(qkv, positions, starts, max(lengths))

    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-5)


def test_attend_when_in_half_precision_then_so_are_its_factors_and_results() -> None:
    """Sums and weights are float32 in between."""
    from harness.embedding.esm.kernels import attend

    rotation, qkv = draw_rotation(16), draw(70, 3, 2, 16, seed=4).half()
    expected = EqualLengths(1).attend(qkv.float(), rotation)

    found = attend(qkv, rotation, torch.tensor([0, 70], dtype=torch.int32), 70)

    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), expected, rtol=2e-3, atol=2e-3)


def test_attend_when_a_number_is_nan_then_its_sequence_shows_it_and_no_other() -> None:
    """What is broken stays visible, and where it is."""
    from harness.embedding.esm.kernels import attend

    qkv = draw(130, 3, 1, 16, seed=4)
    qkv[3, 1] = torch.nan  # a key of the first sequence

    found = attend(qkv, draw_rotation(16), torch.tensor([0, 65, 130], dtype=torch.int32), 65)

    assert found[:65].isnan().all()
    assert found[65:].isfinite().all()


@pytest.mark.parametrize("size", [1.0, 100.0])
def test_attend_when_scores_are_large_then_no_weight_overflows(size: float) -> None:
    """What was added up before a larger score turns up is scaled down."""
    from harness.embedding.esm.kernels import attend

    rotation, qkv = draw_rotation(16), draw(150, 3, 1, 16, seed=5) * size
    expected = EqualLengths(1).attend(qkv, rotation)

    found = attend(qkv, rotation, torch.tensor([0, 150], dtype=torch.int32), 150)

    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * size)


@pytest.mark.parametrize("dim", [16, 20])
def test_normalise_then_what_was_put_off_is_added_before(fused: Arithmetic, dim: int) -> None:
    """Also where the width is no power of 2."""
    hidden, norm = draw(4, dim, seed=6), draw_norm(dim, shift=draw(dim, seed=7))
    shifted = hidden + draw(dim, seed=7)
    expected = functional.layer_norm(shifted, (dim,), norm.weight, norm.bias, 1e-5)

    for arithmetic in (fused, PLAIN):
        torch.testing.assert_close(arithmetic.normalise(hidden, norm), expected)
    half = fused.normalise(hidden.half(), norm)
    torch.testing.assert_close(half.float(), expected, rtol=2e-3, atol=2e-3)


def test_activate_then_gelu_by_the_error_function(fused: Arithmetic) -> None:
    """No approximation by tanh, which is off by 5e-4; and large values stay what they are."""
    wide = torch.cat((torch.linspace(-8, 8, 999), torch.tensor([0.0, 1e4, -1e4])))[None]

    torch.testing.assert_close(
        fused.activate(wide.clone()), functional.gelu(wide), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("width", [24, 1500])
def test_gate_then_gelu_of_the_first_half_times_the_second(fused: Arithmetic, width: int) -> None:
    """Also where a token's channels are several tiles."""
    wide = 3 * draw(3, 2 * width, seed=12)
    expected = functional.gelu(wide[:, :width]) * wide[:, width:]

    for arithmetic in (fused, PLAIN):
        torch.testing.assert_close(arithmetic.gate(wide.clone()), expected, rtol=1e-5, atol=1e-5)


def test_put_off_biases_then_the_next_normalisation_has_them(fused: Arithmetic) -> None:
    """Hidden states lack them until then; what is normalised is the same."""
    from harness.embedding.esm.kernels import put_off_biases

    dim = 16
    square = Linear(draw(dim, dim, seed=8), draw(dim, seed=9))
    plain = Layer(draw_norm(dim), square, square, draw_norm(dim), square, square, draw_rotation(8))
    without = plain._replace(narrow=square._replace(bias=None))
    (first, second), last = put_off_biases([plain, without], draw_norm(dim))
    bias = draw(dim, seed=9)

    norms = [first.attention_norm, first.norm, second.attention_norm, second.norm, last]
    for norm, number in zip(norms, (0, 1, 2, 3, 3), strict=True):
        torch.testing.assert_close(norm.shift, bias * number)
    assert first.attended.bias is first.narrow.bias is None
    assert first.qkv.bias is not None
    hidden, inputs = draw(3, dim, seed=10), draw(3, dim, seed=11)
    expected = PLAIN.normalise(PLAIN.add_product(hidden, inputs, square), plain.norm)
    found = fused.normalise(fused.add_product(hidden, inputs, first.attended), first.norm)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_put_off_biases_when_in_half_precision_then_their_sum_is_not() -> None:
    """Many small ones are added up."""
    from harness.embedding.esm.kernels import put_off_biases

    small = Linear(draw(4, 4, seed=8).half(), torch.full((4,), 2.0**-12).half())
    large = small._replace(bias=torch.ones(4).half())
    half_norm = Norm(torch.ones(4).half(), torch.zeros(4).half(), 1e-5)
    layer = Layer(half_norm, large, large, half_norm, large, small, draw_rotation(8))

    _, last = put_off_biases([layer], half_norm)

    torch.testing.assert_close(last.shift, torch.full((4,), 1 + 2.0**-12), rtol=0, atol=0)


# The widths of FastESM2_650 and of the smallest ESM2, whose heads have fewer channels than a tile.
COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from harness.embedding.esm import kernels

HALF, FLOAT = "*bf16", "*fp32"

def check(kernel, sizes, **arguments):
    signature = {n: arguments.get(n, "constexpr") for n in kernel.arg_names}
    constants = {(kernel.arg_names.index(name),): value for name, value in sizes.items()}
    made = compile(ASTSource(kernel, signature, constants), target=GPUTarget("cuda", 90, 32))
    print(kernel.__name__, "wgmma" in made.asm["ptx"])

for dim, n_heads in ((1280, 20), (320, 20)):
    half = dim // n_heads // 2
    power = triton.next_power_of_2
    check(kernels.normalise, {"dim": dim, "epsilon": 1e-5, "block_dim": power(dim)},
          hidden=HALF, shift=FLOAT, weight=HALF, bias=HALF, normed=HALF)
    check(kernels.activate, {"block_values": 4096}, wide=HALF, n_values="i32")
    sizes = {"n_heads": n_heads, "half": half, "block_half": max(16, power(half)), "block_keys": 64}
    shared = {"qkv": HALF, "cosines": FLOAT, "sines": FLOAT, "starts": "*i32", "n_tiles": "i32"}
    check(kernels.turn_keys, sizes, **shared)
    tiles = {**sizes, "block_queries": 64}
    check(kernels.attend_tiles, {**tiles, "slopes": None}, attended=HALF, **shared)

# DNABERT-S's.
check(kernels.gate, {"width": 3072, "block_width": 1024}, wide=HALF, gated=HALF)
sizes = {"n_heads": 12, "half": 32, "block_half": 32, "block_keys": 64, "block_queries": 64}
check(kernels.attend_tiles, {**sizes, "cosines": None, "sines": None}, qkv=HALF, slopes=FLOAT,
      starts="*i32", n_tiles="i32", attended=HALF)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="no Triton is installed on other platforms",
)
def test_kernels_when_compiled_for_hopper_then_attention_uses_its_matrix_units() -> None:
    """In a process of its own: this one's Triton interprets."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    kernels = ["normalise False", "activate False", "turn_keys False"]
    proteins = [*kernels, "attend_tiles True"] * 2
    assert done.stdout.splitlines() == [*proteins, "gate False", "attend_tiles True"]
