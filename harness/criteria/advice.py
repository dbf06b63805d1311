"""The words about accuracy: what was found, what to do about it, and how the heads learned.

Numbers in, sentences out; nothing here decides. Losses are mean cross-entropies in nats. Those of
training are taken with dropout and while the weights still move, so they come out too high: a
validation loss that lies above them is a sign of overfitting all the more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from harness.criteria.bounds import (
    MAX_SETTLING,
    MIN_EFFECTIVE_GENOMES,
    SettlingSize,
    drop_upper_bound,
    lacking_genomes,
)
from harness.criteria.calibration import UnitBounds
from harness.criteria.drop import DropFinding, blind_spots
from harness.criteria.result import State
from harness.criteria.units import GenomeEffect, Genomes, PairedOutcomes

__all__ = [
    "LearningCurve",
    "blind_spot_reservations",
    "describe_drop",
    "genome_steps",
    "learning_steps",
    "lineage_reservations",
    "lineage_steps",
    "loss_steps",
    "more_genomes_step",
    "pairing_step",
    "read_curve",
    "relative_warning",
    "settling_step",
]


# Smaller differences between two losses, relative to the smaller one, are noise of the last epochs.
NOTABLE_RISE = 0.02
NOTABLE_GAP = 0.10


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningCurve:
    """The history of one head.

    Attributes
    ----------
    train_losses, validation_losses : tuple of float
        One an epoch; at least one.
    best_epoch : int
        The one of the lowest validation loss, from 1.
    epoch_limit : int
        How many epochs there may have been.
    evaluates_best : bool
        Whether the head of the best epoch is the one that was judged, not that of the last.
    """

    train_losses: tuple[float, ...]
    validation_losses: tuple[float, ...]
    best_epoch: int
    epoch_limit: int
    evaluates_best: bool

    @property
    def epochs_run(self) -> int:
        """How many epochs there were."""
        return len(self.validation_losses)

    @property
    def best(self) -> tuple[float, float]:
        """Train and validation loss of the best epoch."""
        return self.train_losses[self.best_epoch - 1], self.validation_losses[self.best_epoch - 1]

    @property
    def last(self) -> tuple[float, float]:
        """Train and validation loss of the last epoch."""
        return self.train_losses[-1], self.validation_losses[-1]


def read_curve(training: Mapping[str, Any]) -> LearningCurve:
    """Return the curve of a head from what is reported of its training."""
    history = training["history"]
    return LearningCurve(
        train_losses=tuple(epoch["train_loss"] for epoch in history),
        validation_losses=tuple(epoch["validation_loss"] for epoch in history),
        best_epoch=training["best_epoch"],
        epoch_limit=training["recipe"]["epochs"],
        evaluates_best=training["evaluated"] == "best",
    )


def learning_steps(
    curve: LearningCurve | None,
    baseline: LearningCurve | None = None,
    *,
    name: str = "candidate",
) -> tuple[str, ...]:
    """Say whether a head that is not accurate enough learned too little or learned by heart.

    Parameters
    ----------
    curve : LearningCurve or None
        Of the head; None if it was not trained here: then there is nothing to say.
    baseline : LearningCurve, optional
        Of the head that it is compared with.
    name : str
        Whose head it is.

    Returns
    -------
    tuple of str
        Most useful first: training cut short; overfitting; what the baseline's losses on the same
        rows say; or that neither shows.
    """
    if curve is None:
        return ()
    found = (
        _cut_short_step(curve, name),
        _overfitting_step(curve, name),
        _against_baseline_step(curve, baseline),
    )
    return tuple(step for step in found if step) or (_neither_step(curve, name),)


def _cut_short_step(curve: LearningCurve, name: str) -> str | None:
    if curve.epochs_run < curve.epoch_limit or curve.best_epoch < curve.epochs_run:
        return None
    return (
        f"Underfitting: the {name}'s training ended at its limit of {curve.epoch_limit} epochs "
        f"with the lowest validation loss ({curve.last[1]:.4g}) in the last one. Raise [training] "
        "epochs, or the learning rate."
    )


def _overfitting_step(curve: LearningCurve, name: str) -> str | None:
    (train_then, best), (train_now, last) = curve.best, curve.last
    rise = last / best - 1 if best > 0 else 0.0
    if rise > NOTABLE_RISE and train_now < train_then:
        remedy = (
            "The best epoch was judged, so more or more varied training records are what is left"
            if curve.evaluates_best
            else "Judge the best epoch in place of the last ([training] save_best = true)"
        )
        return (
            f"Overfitting: the {name}'s validation loss rose by {rise:.0%} after epoch "
            f"{curve.best_epoch} of {curve.epochs_run} (from {best:.4g} to {last:.4g}), while its "
            f"training loss fell from {train_then:.4g} to {train_now:.4g}. {remedy}."
        )
    if train_then > 0 and best > (1 + NOTABLE_GAP) * train_then:
        return (
            f"Overfitting: in its best epoch ({curve.best_epoch}) the {name}'s validation loss "
            f"is {best:.4g} against {train_then:.4g} in training. Train on more or more varied "
            "records, or raise [training] dropout."
        )
    return None


def _against_baseline_step(curve: LearningCurve, baseline: LearningCurve | None) -> str | None:
    """Compare how well both heads fit the same training rows."""
    if baseline is None:
        return None
    (train, validation), (their_train, their_validation) = curve.best, baseline.best
    losses = (
        f"training {train:.4g} against {their_train:.4g}, validation {validation:.4g} against "
        f"{their_validation:.4g} (best epochs {curve.best_epoch} and {baseline.best_epoch})"
    )
    if train > (1 + NOTABLE_GAP) * their_train:
        return (
            "The candidate fits even its training rows less well than the baseline does: "
            f"{losses}. If a longer training or a higher learning rate doesn't close that gap, its "
            "embeddings tell the classes apart less well."
        )
    if validation > (1 + NOTABLE_GAP) * their_validation:
        return (
            "The candidate fits its training rows as well as the baseline does, and the "
            f"validation rows less well: {losses}. What it learned does not carry over; train on "
            "more or more varied records."
        )
    return None


def _neither_step(curve: LearningCurve, name: str) -> str:
    train, validation = curve.best
    return (
        f"The {name}'s training shows neither under- nor overfitting: {curve.epochs_run} of at "
        f"most {curve.epoch_limit} epochs, the best one {curve.best_epoch}, with a training loss "
        f"of {train:.4g} and a validation loss of {validation:.4g}. Look at the embeddings next."
    )


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
    if finding.drop_points >= finding.limit_points:
        text += f" A drop of {limit} points or more is too much."
    for name, lost in finding.failed_classes.items():
        text += (
            f" Among {name} rows the drop is {float(lost):.2f} points, over the "
            f"{float(finding.class_limit_points):g} that a class may lose."
        )
    if finding.state is State.FAIL:
        return text
    text += f" With 95% confidence the drop is at most {finding.interval_points[1]:.2f} points"
    if finding.genomes.names is None:
        text += " if rows are independent."
    else:
        known = "" if on_these_points is None else f" ({on_these_points:.2f} on these genomes)"
        text += f" on {_unit(finding)}s like these{known}."
    if finding.state is State.PASS:
        return text
    if finding.seed_decides:
        text += " The seed decides: heads of another one are not shown to be within the limit."
    return f"{text} Not shown to be below {limit} points; missing: {', '.join(finding.missing)}."


def _unit(finding: DropFinding) -> str:
    """Return the kind of unit that sets the bound."""
    return "genome" if finding.bounds is None else finding.bounds.widest.unit


def relative_warning(finding: DropFinding) -> tuple[str, ...]:
    """Warn where the limit, read in percent of the baseline's accuracy, would decide otherwise."""
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
    if finding.drop_points >= finding.limit_points:
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


# A multiplier above this is worth more, or more even, units.
_NOTABLE_MULTIPLIER = 1.1


# With fewer rows a lineage's drop is too vague to stand at the top of a report.
_MIN_LINEAGE_ROWS = 30


def lineage_reservations(outcomes: PairedOutcomes, class_limit: Fraction) -> tuple[str, ...]:
    """Name the lineages that certainly lost, and by more than a class may."""
    paired = outcomes.by_lineage
    if paired is None:
        return ()
    names, sizes = paired.units.names or (), paired.units.sizes
    net = paired.lost - paired.gained
    lower = -drop_upper_bound(paired.gained, paired.lost, sizes)
    is_over = 100 * net * class_limit.denominator > class_limit.numerator * sizes
    chosen = np.flatnonzero((sizes >= _MIN_LINEAGE_ROWS) & is_over & (lower > 0))
    return tuple(
        f"{names[i]} lost {100 * net[i] / sizes[i]:.1f} points ({net[i]} of {sizes[i]} rows, net), "
        f"at least {100 * lower[i]:.1f} with 95% confidence."
        for i in sorted(chosen, key=lambda i: -net[i] / sizes[i])
    )


def genome_steps(finding: DropFinding) -> tuple[str, ...]:
    """Say what to do about genomes or lineages that are not given, too few, or too unequal."""
    if finding.state is not State.INCONCLUSIVE:
        return ()
    steps = []
    if finding.lacks_groups:
        steps.append(
            "Give the genome of each row: the taxonomy's third column, or its first where each "
            "genome has one accession."
        )
    if finding.bounds is None:
        if lacking_genomes(finding.effect):
            steps.append(more_genomes_step(finding.effect, finding.genomes))
    elif finding.bounds.strictest.calibration.upper > _NOTABLE_MULTIPLIER and finding.unbounded:
        steps.append(_more_units_step(finding.bounds.strictest))
    if finding.settling is not None:
        decisive = finding.effect if finding.bounds is None else finding.bounds.widest.effect
        steps.append(settling_step(finding.settling, decisive, of="drop", unit=_unit(finding)))
    if finding.seed_decides:
        steps.append(
            "Train longer, or on more records, until heads of other seeds agree; a test set with "
            "more genomes tells them apart better. Another seed is no remedy."
        )
    return tuple(steps)


def _more_units_step(found: UnitBounds) -> str:
    """Say what to do about units whose number or sizes widen the bound."""
    largest, unit = found.paired.units.largest(), found.unit
    step = (
        f"Draw the test rows more evenly from the {unit}s, or from more of them: "
        f"{largest['name']} alone holds {largest['share']:.0%} of the rows, so all "
        f"{found.effect.n_genomes} count as {found.effect.effective_genomes:.1f} {unit}s"
    )
    if math.isinf(found.calibration.upper):
        return f"{step}, and one {unit} says nothing about others."
    return f"{step}, and the bound's quantile is multiplied by {found.calibration.upper:.2f}."


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


def blind_spot_reservations(finding: DropFinding) -> tuple[str, ...]:
    """Name each class in which more than the limit can be lost without being met at all."""
    found: dict[str, tuple[float, str]] = {}
    for units in finding.bounds.by_unit if finding.bounds and finding.genomes.names else ():
        for name, percent in blind_spots(units).items():
            found[name] = max(found.get(name, (0.0, "")), (percent, units.unit))
    return tuple(
        f"A kind of {name} {unit} that makes up less than {percent:.1f}% of them can be lost whole "
        "without being met by this test set."
        for name, (percent, unit) in found.items()
        if percent > finding.limit_points
    )


def pairing_step(baseline_n: int) -> str:
    """Say how an unpaired comparison becomes a paired one."""
    return (
        "Give the baseline's predictions of these very test rows ([baseline] predictions, a table "
        "of id and score): rows that are hard for both sides then cancel, and the bound no longer "
        f"rests on {baseline_n:,} rows that may be others."
    )


def settling_step(
    size: SettlingSize, effect: GenomeEffect, *, of: str, unit: str = "genome"
) -> str:
    """Say how large a test set would settle it, if the true ``of`` is the observed one."""
    proviso = f"if the true {of} is the observed one"
    if size.n_rows is not None:
        whose = "" if effect.n_genomes == effect.n_rows else f" from the same {unit}s"
        return (
            f"About {size.n_rows:,} test rows{whose} would settle it, {proviso}; "
            f"now there are {effect.n_rows:,}."
        )
    if size.n_genomes is not None:
        return (
            f"About {size.n_genomes:,} {unit}s with as many rows each would settle it, {proviso}; "
            f"now there are {effect.n_genomes:,}. More rows from the same {unit}s may not."
        )
    return (
        f"The {of} is too near the limit: over {MAX_SETTLING:,} rows or {unit}s would be needed. "
        "A better model will settle it, a larger test set will not."
    )


def _class_step(outcomes: PairedOutcomes) -> str | None:
    """Name the class that loses more of its rows; None where there is one class only."""
    falls = {name: float(drop) for name, drop in outcomes.class_drops.items()}
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
    names = outcomes.by_genome.units.names
    if names is None:
        return None
    by_genome = outcomes.by_genome.lost - outcomes.by_genome.gained
    worst = [int(i) for i in np.argsort(-by_genome, kind="stable")[:_SHOWN_GENOMES]]
    shown = [
        f"{names[i]} ({by_genome[i]} of {outcomes.by_genome.units.sizes[i]})"
        for i in worst
        if by_genome[i] > 0
    ]
    return f"Net losses are largest in {', '.join(shown)}; {net} rows in all."


def _percent(share: Fraction) -> str:
    return f"{float(share):.2%}"
