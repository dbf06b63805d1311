"""How steps are taken on a device: written out in PyTorch, or fused and captured on CUDA."""

from __future__ import annotations

from typing import TypeAlias

from harness.config import TrainingConfig
from harness.errors import MissingInput
from harness.training.captured import BATCHES_PER_LAUNCH, CapturedSteps, record_graph
from harness.training.head import Head
from harness.training.steps import TrainingStep

__all__ = ["StepEngine", "choose_engine"]

StepEngine: TypeAlias = TrainingStep | CapturedSteps

# Larger batches keep a GPU busy by themselves, and do not fit into the registers of one program.
LARGEST_FUSED_BATCH = 512


def choose_engine(head: Head, recipe: TrainingConfig) -> StepEngine:
    """Return what takes a head's steps on the device that it is on.

    Parameters
    ----------
    head : Head
        Is trained in place.
    recipe : TrainingConfig
        Batch size, learning rate, momentum, dropout, and whether TF32 is allowed.

    Raises
    ------
    MissingInput
        If the device is a GPU and Triton cannot be imported.
    """
    is_cuda = head.output_layer.weight.is_cuda
    if not is_cuda or recipe.batch_size > LARGEST_FUSED_BATCH:
        return TrainingStep(head, recipe)
    try:
        from harness.training.fused import FusedStep
    except ImportError as error:
        raise MissingInput(
            f"training on a GPU needs Triton, which cannot be imported ({error})",
            remedy="Install PyTorch's CUDA build for Linux, which brings it, or train on the CPU",
        ) from error
    step = FusedStep(head, recipe, n_steps=BATCHES_PER_LAUNCH)
    return CapturedSteps(head, recipe, step=step, record=record_graph)
