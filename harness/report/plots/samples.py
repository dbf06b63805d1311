"""Figures of the test set: lineage shares and distributions, train against test."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from harness.report.content.evidence import evidence_of
from harness.report.content.reading import as_mapping, as_number, as_numbers, as_rows, as_text
from harness.report.plots.source import Source
from harness.report.plots.style import COLOURS, label_text, legend_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_gc", "draw_length", "draw_lineages"]

# More lineages than these cannot be read; the largest are shown.
MOST_LINEAGES = 30
CLASS_NAMES = {"0": "not viral", "1": "viral"}
# Beyond this no count of rows is real, and an axis would overflow.
LARGEST_COUNT = 1e12


def draw_lineages(source: Source, figure: Figure) -> str | None:
    """Draw each lineage's share of its class, in train and in test."""
    rows = as_rows(evidence_of(source.verdict, "representative-split").get("lineages"))
    shares = _shares(rows)
    if not shares:
        return None
    largest = sorted(shares, key=lambda row: (-row[1], row[0]))[:MOST_LINEAGES]
    shown = sorted(largest, key=lambda row: (row[0].startswith("viral"), row[1]))
    figure.set_size_inches(6.4, 1.6 + 0.22 * len(shown))
    axes = figure.subplots()
    places = range(len(shown))
    for place, (_, train, test) in enumerate(shown):
        axes.plot([train, test], [place, place], color=COLOURS["guide"], linewidth=1)
    axes.plot([r[1] for r in shown], places, "o", color=COLOURS["train"], label="train")
    axes.plot([r[2] for r in shown], places, "D", color=COLOURS["test"], label="test", markersize=5)
    axes.set_yticks(list(places), [label_text(row[0], 44) for row in shown])
    axes.set(xlabel="Share of the class (%)", xlim=(0, 1.08 * max(max(r[1:]) for r in shown)))
    legend_below(figure, columns=2)
    furthest = max(shown, key=lambda row: abs(row[1] - row[2]))
    return (
        f"Shares of {len(shown)} of {len(shares)} lineages in train and test, percent of their "
        f"class; furthest apart: {furthest[0]} with {furthest[1]:.1f} and {furthest[2]:.1f}."
    )


def draw_length(source: Source, figure: Figure) -> str | None:
    """Draw the distribution of lengths, train against test."""
    return _draw_histogram(source, figure, "length", "Protein length (residues)")


def draw_gc(source: Source, figure: Figure) -> str | None:
    """Draw the distribution of GC content, train against test."""
    return _draw_histogram(source, figure, "gc", "GC content (share of nucleotides)")


def _shares(rows: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """Return (name, train, test) in percent of the class."""
    counts = [
        (as_text(row.get("label")), as_text(row.get("lineage")), train, test)
        for row in rows
        if (train := _count(row.get("train"))) is not None
        and (test := _count(row.get("test"))) is not None
    ]
    train_totals: Counter[str] = Counter()
    test_totals: Counter[str] = Counter()
    for label, _, train, test in counts:
        train_totals[label] += train
        test_totals[label] += test
    return [
        (
            f"{CLASS_NAMES.get(label, label)}: {name}",
            100 * train / (train_totals[label] or 1),
            100 * test / (test_totals[label] or 1),
        )
        for label, name, train, test in counts
    ]


def _count(value: object) -> int | None:
    number = as_number(value)
    return int(number) if number is not None and 0 <= number < LARGEST_COUNT else None


def _draw_histogram(source: Source, figure: Figure, key: str, xlabel: str) -> str | None:
    evidence = evidence_of(source.verdict, "representative-split")
    bins = as_mapping(as_mapping(evidence.get("histograms")).get(key))
    edges = as_numbers(bins.get("edges"))
    counts = {part: as_numbers(bins.get(part)) for part in ("train", "test")}
    is_sound = all(low < high for low, high in pairwise(edges)) and all(
        len(values) == len(edges) - 1 and all(0 <= v < LARGEST_COUNT for v in values)
        for values in counts.values()
    )
    if len(edges) < 2 or not is_sound or max(map(abs, edges)) >= LARGEST_COUNT:
        return None
    figure.set_size_inches(5.4, 3.4)
    axes = figure.subplots()
    lines = {"train": "-", "test": "--"}
    for part, values in counts.items():
        total = sum(values)
        shares = [100 * value / (total or 1) for value in values]
        axes.stairs(
            shares,
            edges,
            color=COLOURS[part],
            linestyle=lines[part],
            linewidth=1.6,
            label=f"{part} ({int(total):,} rows)",
        )
    axes.set(xlabel=xlabel, ylabel="Rows (%)", ylim=(0, None))
    axes.margins(x=0.03)
    legend_below(figure, columns=2)
    return f"{xlabel}: distribution of the training rows and of the test rows, in percent."
