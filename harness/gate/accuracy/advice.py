"""The words about a drop in accuracy: what was found, and what to do about it.

Every sentence is made from the evidence at hand. Nothing here decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from harness.gate.accuracy.design_effect import GenomeEffect
from harness.gate.accuracy.drop import MIN_EFFECTIVE_GENOMES, DropFinding
from harness.gate.accuracy.settling import MAX_SETTLING, SettlingSize
from harness.gate.proof.outcomes import Genomes, PairedOutcomes
from harness.gate.result import State

__all__ = [
    "describe_drop",
    "genome_steps",
    "lineage_steps",
    "loss_steps",
    "more_genomes_step",
    "pairing_step",
    "relative_warning",
    "settling_step",
]

_SHOWN_GENOMES = 3
_SHOWN_LINEAGES = 3
_ALIKE_POINTS = 1  # classes that differ by less are not told apart in words


def describe_drop(finding: DropFinding, counts: str, *, on_these_points: float | None) -> str:
    """Say in a few sentences what was found.

    Parameters
    ----------
    finding : DropFinding
        The drop and its bounds.
    counts : str
        Where the numbers come from, such as ``12 rows lost, 7 gained of 400``.
    on_these_points : float or None
        The bound for these very genomes, where there is one beside the gated bound.
    """
    drop = float(finding.drop_points)
    direction = "above" if drop < 0 else "below"
    text = (
        f"The candidate's accuracy of {_percent(finding.candidate_accuracy)} lies "
        f"{abs(drop):.2f} points {direction} the baseline's {_percent(finding.baseline_accuracy)} "
        f"({counts})."
    )
    if drop > 0 and finding.relative_drop_percent and finding.error_ratio:
        text += (
            f" That is {float(finding.relative_drop_percent):.2f}% of its accuracy and makes "
            f"{float(finding.error_ratio):.2f} times its errors."
        )
    limit = f"{float(finding.limit_points):g}"
    if finding.state is State.FAIL:
        return f"{text} A drop of {limit} points or more is too much."
    text += f" With 95% confidence the drop is at most {finding.interval_points[1]:.2f} points"
    if finding.genomes.names is None:
        text += " if rows are independent."
    else:
        known = "" if on_these_points is None else f" ({on_these_points:.2f} on these genomes)"
        text += f" on genomes like these{known}."
    if finding.state is State.PASS:
        return text
    return f"{text} Not shown to be below {limit} points; missing: {', '.join(finding.missing)}."


def relative_warning(finding: DropFinding) -> tuple[str, ...]:
    """Warn where 5% of the baseline's accuracy, the stricter reading, would decide otherwise."""
    relative, limit = finding.relative_drop_percent, finding.limit_points
    if relative is None or not finding.drop_points < limit <= relative:
        return ()
    return (
        f"The drop of {float(finding.drop_points):.2f} points is {float(relative):.2f}% of the "
        f"baseline's accuracy: below {float(limit):g} in points, as judged, but not in percent",
    )


def loss_steps(finding: DropFinding, outcomes: PairedOutcomes) -> tuple[str, ...]:
    """Say where a candidate that lost accuracy lost it: how much, in which class and genomes."""
    net = outcomes.lost - outcomes.gained
    if net <= 0:
        return ()
    steps = [_class_step(outcomes), _concentration_step(outcomes, net)]
    if finding.state is State.FAIL:
        allowed = math.ceil(finding.limit_points * outcomes.n_rows / 100) - 1
        steps.insert(
            0,
            f"The candidate must win back at least {net - allowed} of the "
            f"{outcomes.lost} rows that only the baseline has right.",
        )
    return tuple(step for step in steps if step)


def lineage_steps(lineages: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Name the lineages in which most rows were lost.

    Parameters
    ----------
    lineages : sequence of mappings
        ``group``, ``n`` and ``drop_points`` of each, as ``break_down`` returns them.
    """
    net = {row["group"]: round(row["n"] * row["drop_points"] / 100) for row in lineages}
    worst = sorted(
        (row for row in lineages if net[row["group"]] > 0), key=lambda row: -net[row["group"]]
    )
    shown = [
        f"{row['group']} ({net[row['group']]} of {row['n']} rows, {row['drop_points']:.1f} points)"
        for row in worst[:_SHOWN_LINEAGES]
    ]
    return (f"Lineages that lost most, net: {', '.join(shown)}.",) if shown else ()


def genome_steps(finding: DropFinding) -> tuple[str, ...]:
    """Say what to do about genomes that are not given, too few, or too unequal."""
    if finding.state is not State.INCONCLUSIVE:
        return ()
    steps = []
    if finding.lacks_groups:
        steps.append(
            "Give the genome of each row: the taxonomy's third column, or its first where each "
            "genome has one accession."
        )
    if finding.has_too_few_genomes:
        steps.append(more_genomes_step(finding.effect, finding.genomes))
    if finding.settling is not None:
        steps.append(settling_step(finding.settling, finding.effect, of="drop"))
    return tuple(steps)


def more_genomes_step(effect: GenomeEffect, genomes: Genomes) -> str:
    """Say what to do about genomes that are too few, or too unequal, for a bound."""
    largest = genomes.largest()
    if largest["name"] is None:
        return f"Judge at least {MIN_EFFECTIVE_GENOMES} test rows; there are {effect.n_rows}."
    needed = math.ceil(MIN_EFFECTIVE_GENOMES * effect.n_genomes / effect.effective_genomes)
    return (
        f"Draw the test rows more evenly from the genomes, or from about {needed} of them: "
        f"{largest['name']} alone holds {largest['share']:.0%} of the rows, so all "
        f"{effect.n_genomes} count as {effect.effective_genomes:.1f} genomes."
    )


def pairing_step(baseline_n: int) -> str:
    """Say how an unpaired comparison becomes a paired one."""
    return (
        "Give the baseline's predictions of these very test rows ([baseline] predictions, a table "
        "of id and score): rows that are hard for both sides then cancel, and the bound no longer "
        f"rests on {baseline_n:,} rows that may be others."
    )


def settling_step(size: SettlingSize, effect: GenomeEffect, *, of: str) -> str:
    """Say how large a test set would settle it, if the true ``of`` is the observed one."""
    proviso = f"if the true {of} is the observed one"
    if size.n_rows is not None:
        whose = "" if effect.n_genomes == effect.n_rows else " from the same genomes"
        return (
            f"About {size.n_rows:,} test rows{whose} would settle it, {proviso}; "
            f"now there are {effect.n_rows:,}."
        )
    if size.n_genomes is not None:
        return (
            f"About {size.n_genomes:,} genomes with as many rows each would settle it, {proviso}; "
            f"now there are {effect.n_genomes:,}. More rows from the same genomes may not."
        )
    return (
        f"The {of} is too near the limit: over {MAX_SETTLING:,} rows or genomes would be needed. "
        "A better model will settle it, a larger test set will not."
    )


def _class_step(outcomes: PairedOutcomes) -> str | None:
    """Name the class that loses more of its rows; None where there is one class only."""
    falls = {
        name: 100 * (count["lost"] - count["gained"]) / count["n"]
        for name, count in outcomes.by_class.items()
        if count["n"]
    }
    if len(falls) < 2:
        return None
    viral, nonviral = falls["viral"], falls["nonviral"]
    where = (
        f"{_change(viral)} among viral rows, {_change(nonviral)} among the others; "
        f"{_recall_and_precision(outcomes)}."
    )
    if abs(viral - nonviral) < _ALIKE_POINTS:
        return f"Both classes lose about alike: {where}"
    if viral > nonviral:
        return f"Look at recall first (missed viruses): {where}"
    return f"Look at precision first (false alarms): {where}"


def _recall_and_precision(outcomes: PairedOutcomes) -> str:
    """Say where both metrics were and where they are now."""
    right = {
        name: (count["baseline_right"], count["baseline_right"] - count["lost"] + count["gained"])
        for name, count in outcomes.by_class.items()
    }
    n_viral, n_nonviral = (outcomes.by_class[name]["n"] for name in ("viral", "nonviral"))
    recalls, precisions = [], []
    for hits, rejections in zip(right["viral"], right["nonviral"], strict=True):
        called = hits + n_nonviral - rejections
        recalls.append(f"{hits / n_viral:.1%}")
        precisions.append(f"{hits / called:.1%}" if called else "undefined")
    return f"recall {' to '.join(recalls)}, precision {' to '.join(precisions)}"


def _change(fall: float) -> str:
    return f"{abs(fall):.1f} points {'gained' if fall < 0 else 'lost'}"


def _concentration_step(outcomes: PairedOutcomes, net: int) -> str | None:
    """Name the genomes with the largest net losses."""
    names = outcomes.genomes.names
    if names is None:
        return None
    by_genome = outcomes.lost_by_genome - outcomes.gained_by_genome
    worst = [int(i) for i in np.argsort(-by_genome, kind="stable")[:_SHOWN_GENOMES]]
    shown = [
        f"{names[i]} ({by_genome[i]} of {outcomes.genomes.sizes[i]})"
        for i in worst
        if by_genome[i] > 0
    ]
    return f"Net losses are largest in {', '.join(shown)}; {net} rows in all."


def _percent(share: Fraction) -> str:
    return f"{float(share):.2%}"
