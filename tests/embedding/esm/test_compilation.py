"""The kernels compile for a Hopper GPU, which takes Triton and no GPU."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

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

for dim, wide, n_heads in ((1280, 5120, 20), (320, 1280, 20)):
    half = dim // n_heads // 2
    power = triton.next_power_of_2
    check(kernels.normalise, {"dim": dim, "epsilon": 1e-5, "block_dim": power(dim)},
          hidden=HALF, shift=FLOAT, weight=HALF, bias=HALF, normed=HALF)
    check(kernels.activate, {"block_values": 4096}, wide=HALF, n_values="i32")
    check(kernels.round_rows, {"n_columns": wide, "largest": 448.0, "smallest_scale": 1e-12,
          "block_columns": power(wide)}, values=HALF, rounded="*fp8e4nv", scales=FLOAT)
    sizes = {"n_heads": n_heads, "half": half, "block_half": max(16, power(half)), "block_keys": 64}
    shared = {"qkv": HALF, "cosines": FLOAT, "sines": FLOAT, "starts": "*i32", "n_tiles": "i32"}
    check(kernels.turn_keys, sizes, **shared)
    check(kernels.attend_tiles, {**sizes, "block_queries": 64}, attended=HALF, **shared)
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
    kernels = ["normalise False", "activate False", "round_rows False", "turn_keys False"]
    assert done.stdout.splitlines() == [*kernels, "attend_tiles True"] * 2
