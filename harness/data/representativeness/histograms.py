"""Lengths and GC of train and test as histograms, for the figures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.data.representativeness.class_effects import ClassSample
from harness.data.representativeness.comparison import Histogram

__all__ = ["draw_histograms"]

FloatArray = npt.NDArray[np.float64]

_MOST_BINS = 40
_GC_EDGES = np.linspace(0, 1, _MOST_BINS + 1)


def draw_histograms(sample: ClassSample) -> list[Histogram]:
    """Return the histograms of what is known of one class: lengths in residues, GC as shares."""
    lengths = sample.traits.length_residues
    gc, is_test = sample.traits.gc, sample.draw.is_test
    is_known = ~np.isnan(gc)
    found = []
    if lengths.any():
        found.append(_histogram(sample, "length", lengths, is_test, _length_edges(lengths)))
    if is_known.any():
        found.append(_histogram(sample, "GC", gc[is_known], is_test[is_known], _GC_EDGES))
    return found


def _length_edges(lengths: npt.NDArray[np.int64]) -> FloatArray:
    """Cut between whole numbers, so that every bin holds equally many of them."""
    first, last = int(lengths.min()), int(lengths.max())
    step = -(-(last + 1 - first) // _MOST_BINS)
    return np.arange(first, last + 1 + step, step, dtype=np.float64) - 0.5


def _histogram(
    sample: ClassSample,
    what: str,
    values: npt.NDArray[np.generic],
    is_test: npt.NDArray[np.bool_],
    edges: FloatArray,
) -> Histogram:
    parts = [np.histogram(values[rows], edges)[0] for rows in (~is_test, is_test)]
    train, test = (tuple((part / max(1, part.sum())).tolist()) for part in parts)
    return Histogram(
        label=sample.label, what=what, edges=tuple(edges.tolist()), train=train, test=test
    )
