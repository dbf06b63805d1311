"""A head's parameters as one vector, so that all of them can be updated at once."""

from __future__ import annotations

import torch
from torch import nn

from harness.training.head import Head

__all__ = ["flatten_parameters", "views_by_name"]


def flatten_parameters(head: Head) -> torch.Tensor:
    """Make all parameters views of one vector, (n_parameters,), and return it."""
    vector = nn.utils.parameters_to_vector(head.parameters()).detach()
    nn.utils.vector_to_parameters(vector, head.parameters())
    return vector


def views_by_name(head: Head, vector: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return a vector taken apart like the parameters, by their names."""
    names, parameters = zip(*head.named_parameters(), strict=True)
    parts = torch.split(vector, [parameter.numel() for parameter in parameters])
    return {
        name: part.view_as(parameter)
        for name, parameter, part in zip(names, parameters, parts, strict=True)
    }
