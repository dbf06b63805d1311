"""Heads as ONNX files, for programs that have no PyTorch.

The graph is what ``Head.predict`` computes, node by node. Before it is written it is run and
compared with the head itself. VirNucPro's own form is written elsewhere (``foreign``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.artifacts import write_atomically
from harness.errors import CheckpointError, MissingInput
from harness.training.checkpoints import load_head
from harness.training.head import N_CLASSES, Head

if TYPE_CHECKING:
    import onnx

__all__ = ["INPUT", "OUTPUT", "export_onnx"]

INPUT, OUTPUT = "features", "probabilities"
MAX_DIFFERENCE = 1e-5

# Batch normalisation has the same meaning since opset 15; older runtimes read this IR version.
_OPSET, _IR_VERSION = 17, 8
_COMPARED_ROWS = 64


def export_onnx(checkpoint: Path, target: Path) -> None:
    """Write a checkpoint as an ONNX file; the same checkpoint gives the same bytes.

    Its input ``features`` is float32 (row, feature), any number of rows; its output
    ``probabilities`` is float32 (row, class): column 1 is the probability of the viral class.

    Parameters
    ----------
    checkpoint : Path
        What ``save_head`` wrote.
    target : Path
        The ``.onnx`` file.

    Raises
    ------
    MissingInput
        If onnx or onnxruntime is not installed.
    CheckpointError
        If the head cannot be read, or onnxruntime computes something else than it does.
    """
    _require_extra()
    head = load_head(checkpoint)
    content = _model(head).SerializeToString()
    difference = _largest_difference(content, head)
    if not difference <= MAX_DIFFERENCE:
        raise CheckpointError(
            f"{checkpoint}: as an ONNX graph its probabilities differ by up to {difference:.2g}, "
            f"expected at most {MAX_DIFFERENCE:g}; nothing was written. Update onnxruntime"
        )
    write_atomically(target, content)


def _require_extra() -> None:
    try:
        import onnx  # noqa: F401 - only whether they are there
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MissingInput(
            f"ONNX files cannot be written ({error})",
            remedy="Install what it takes: pip install 'virnucpro-harness[onnx]'",
        ) from error


def _model(head: Head) -> onnx.ModelProto:
    from onnx import TensorProto, checker, helper, numpy_helper

    weights = head.state_dict()
    del weights["bn1.num_batches_tracked"]
    graph = helper.make_graph(
        list(_nodes(epsilon=head.bn1.eps)),
        "head",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["row", head.n_features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["row", N_CLASSES])],
        [numpy_helper.from_array(tensor.numpy(), name) for name, tensor in weights.items()],
        doc_string="VirNucPro's head; column 1 of the output is the probability of 'viral'.",
    )
    model = helper.make_model(
        graph,
        producer_name="virnucpro-harness",
        ir_version=_IR_VERSION,
        opset_imports=[helper.make_opsetid("", _OPSET)],
    )
    checker.check_model(model, full_check=True)
    return model


def _nodes(*, epsilon: float) -> Iterator[onnx.NodeProto]:
    from onnx.helper import make_node

    yield make_node("Gemm", [INPUT, *_parameters("hidden_layer")], ["projected"], transB=1)
    norm = [*_parameters("bn1"), "bn1.running_mean", "bn1.running_var"]
    yield make_node("BatchNormalization", ["projected", *norm], ["normed"], epsilon=epsilon)
    yield make_node("Relu", ["normed"], ["hidden"])
    yield make_node("Gemm", ["hidden", *_parameters("output_layer")], ["logits"], transB=1)
    yield make_node("Softmax", ["logits"], [OUTPUT], axis=1)


def _parameters(layer: str) -> list[str]:
    return [f"{layer}.weight", f"{layer}.bias"]


def _largest_difference(content: bytes, head: Head) -> float:
    """Return how far onnxruntime's probabilities are from the head's, on rows drawn at random."""
    import onnxruntime

    rows = np.random.default_rng(0).normal(size=(_COMPARED_ROWS, head.n_features))
    features = rows.astype(np.float32)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run([OUTPUT], {INPUT: features})
    expected = torch.softmax(head.evaluation_logits(torch.from_numpy(features)), dim=1)
    return float(np.abs(found - expected.numpy()).max())
