"""How the suite runs, on any machine: it needs no GPU, and uses none for Triton's kernels."""

import os

# Triton decides when it is first imported, which PyTorch may do in any test.
os.environ["TRITON_INTERPRET"] = "1"
