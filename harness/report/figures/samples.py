"""Figures of the test set: lineage shares and distributions, train against test."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from harness.report.figures.style import (
    CLASSES,
    COLOURS,
    Source,
    can_be_drawn,
    label_text,
    legend_below,
)
from harness.verdict.contents import Json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_gc", "draw_identity", "draw_length", "draw_lineages"]


# Of each class; more cannot be read.
MOST_LINEAGES = 20
PARTS = ("train", "test")


def draw_lineages(source: Source, figure: Figure) -> str | None:
    """Draw each lineage's share of its class, in train and in test."""
    shares = _shares(source)
    if not any(train or test for _, train, test in shares):
        return None
    figure.set_size_inches(5.2, 1.6 + 0.22 * len(shares))
    axes = figure.subplots()
    places = range(len(shares))
    for place, (_, train, test) in enumerate(shares):
        axes.plot([train, test], [place, place], color=COLOURS["guide"], linewidth=1)
    axes.plot([row[1] for row in shares], places, "o", color=COLOURS["train"], label="train")
    axes.plot(
        [row[2] for row in shares], places, "D", color=COLOURS["test"], label="test", markersize=5
    )
    axes.set_yticks(list(places), [label_text(name, 44) for name, _, _ in shares])
    axes.set(xlabel="Share of the class (%)", xlim=(0, 1.08 * max(max(r[1:]) for r in shares)))
    legend_below(figure, columns=2)
    furthest = max(shares, key=lambda row: abs(row[1] - row[2]))
    return (
        f"Shares of {len(shares)} lineages in train and test, percent of their class; furthest "
        f"apart: {furthest[0]} with {furthest[1]:.1f} and {furthest[2]:.1f}."
    )


def draw_length(source: Source, figure: Figure) -> str | None:
    """Draw the distribution of lengths, train against test."""
    return _draw_histograms(source, figure, "length", "Protein length (residues)")


def draw_gc(source: Source, figure: Figure) -> str | None:
    """Draw the distribution of GC content, train against test."""
    return _draw_histograms(source, figure, "gc", "GC content (share of nucleotides)")


def draw_identity(source: Source, figure: Figure) -> str | None:
    """Draw how similar the test proteins are to their best hits in training, bin by bin."""
    rows = source.verdict.evidence("split-integrity").get("identity", ())
    bins = [(row["bin"], 100 * row["share"]) for row in rows]
    if not any(share for _, share in bins):
        return None
    figure.set_size_inches(5.2, 2.9)
    axes = figure.subplots()
    places = range(len(bins))
    axes.bar(places, [share for _, share in bins], color=COLOURS["test"])
    axes.set_xticks(list(places), [label_text(name, 20) for name, _ in bins])
    axes.set(xlabel="Identity to the best training hit", ylabel="Test proteins (%)")
    return "Test proteins by identity to their best training hit: " + ", ".join(
        f"{name} {share:.1f} percent" for name, share in bins
    )


def _evidence(source: Source, key: str) -> Json:
    found: Json = source.verdict.evidence("representative-split").get(key, {})
    return found


def _shares(source: Source) -> list[tuple[str, float, float]]:
    """Return (name, train, test) in percent of the class; the last comes on top."""
    shares = _evidence(source, "lineage_shares")
    return [
        (f"{class_name}: {row['lineage']}", 100 * row["train"], 100 * row["test"])
        for label, class_name in enumerate(CLASSES)
        for row in shares.get(str(label), ())[:MOST_LINEAGES][::-1]
    ]


def _draw_histograms(source: Source, figure: Figure, key: str, xlabel: str) -> str | None:
    """One panel a class, where the verdict holds sound bins."""
    found = {
        class_name: bins
        for label, class_name in enumerate(CLASSES)
        if (bins := _bins(_evidence(source, "histograms").get(str(label), {}).get(key)))
    }
    if not found:
        return None
    figure.set_size_inches(5.2, 3.1)
    panels = figure.subplots(1, len(found), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (class_name, (edges, *shares)) in zip(panels, found.items(), strict=True):
        for part, line, heights in zip(PARTS, ("-", "--"), shares, strict=True):
            axes.stairs(heights, edges, color=COLOURS[part], linestyle=line, label=part)
        axes.set(title=class_name, xlabel=xlabel)
        axes.margins(x=0.03)
    panels[0].set(ylabel="Rows (%)", ylim=(0, None))  # last, since it ends the fitting of both
    legend_below(figure, columns=2)
    return f"{xlabel}: distribution of the training rows and of the test rows, in percent."


def _bins(bins: Json | None) -> tuple[list[float], list[float], list[float]] | None:
    """Return edges, and the percent of train and of test between them; None unless sound."""
    if bins is None:
        return None
    edges, (train, test) = bins["edges"], ([100 * x for x in bins[part]] for part in PARTS)
    if not len(train) == len(test) == len(edges) - 1:
        return None
    if not all(low < high and can_be_drawn(high - low) for low, high in pairwise(edges)):
        return None
    return (edges, train, test) if any(train + test) else None
