"""What is said about training: how both heads were trained, and when they stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from harness.report.content.document import Block, Column, Table
from harness.report.content.evidence import evidence_blocks, show_value
from harness.report.content.reading import as_mapping, as_number, as_rows
from harness.report.content.wording import (
    show_count,
    show_number,
    show_percent,
    show_seconds,
    side_columns,
    side_name,
)

__all__ = ["training_blocks"]

# Epochs shown of each history: the first, the last, and some between.
MOST_EPOCHS = 12

_FACTS = {
    "evaluated": "Evaluated model",
    "epochs_run": "Epochs run",
    "best_epoch": "Best epoch on validation",
    "stopped_early": "Stopped early",
    "n_train": "Training rows",
    "n_validation": "Validation rows",
}


def training_blocks(verdict: Mapping[str, Any], pictures: list[Block]) -> list[Block]:
    """Return both heads' recipes, stopping points and loss curves."""
    training = as_mapping(verdict.get("training"))
    sides = {side: as_mapping(training.get(side)) for side in ("baseline", "candidate")}
    blocks: list[Block] = [_facts(verdict, sides)] if any(sides.values()) else []
    blocks += pictures
    for side, facts in sides.items():
        if history := as_rows(facts.get("history")):
            blocks.append(_history(f"Epochs of {side_name(verdict, side)}", history))
    for side, facts in sides.items():
        if spread := as_rows(facts.get("spread")):
            blocks.append(_spread(f"Spread over seeds of {side_name(verdict, side)}", spread))
    recipe = as_mapping(sides["candidate"].get("recipe") or sides["baseline"].get("recipe"))
    return blocks + evidence_blocks(recipe, title="Recipe of the heads")


def _facts(verdict: Mapping[str, Any], sides: Mapping[str, Mapping[str, Any]]) -> Table:
    return Table(
        title="Both heads",
        columns=(Column(title="What"), *side_columns(verdict)),
        rows=tuple(
            (words, *(show_value(facts.get(key)) for facts in sides.values()))
            for key, words in _FACTS.items()
        ),
        note="Early stopping reads the validation part, never the test set.",
    )


def _spread(title: str, spread: list[dict[str, Any]]) -> Table:
    """Return one row a seed, the declared one first, and how far they lie apart."""
    numbers = ("Epochs run", "Validation loss", "Validation accuracy")
    rows = [_seed(row, note=" (judged)" if row is spread[0] else "") for row in spread]
    return Table(
        title=title,
        columns=(Column(title="Seed"), *(Column(title=head, kind="number") for head in numbers)),
        rows=(*rows, *_summaries(spread)),
        note="The gate judges the head of the declared seed, whatever the others reach; they have "
        "not read the test set.",
    )


def _seed(row: Mapping[str, Any], *, note: str) -> tuple[str, ...]:
    return (
        show_value(str(row.get("seed"))) + note,
        show_count(as_number(row.get("epochs_run"))),
        show_number(as_number(row.get("validation_loss"))),
        show_percent(as_number(row.get("validation_accuracy"))),
    )


def _summaries(spread: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    losses, accuracies = (
        [number for row in spread if (number := as_number(row.get(key))) is not None]
        for key in ("validation_loss", "validation_accuracy")
    )
    if losses and accuracies:
        for words, summary in (("Lowest", min), ("Mean", fmean), ("Highest", max)):
            yield words, "", show_number(summary(losses)), show_percent(summary(accuracies))


def _history(title: str, history: list[dict[str, Any]]) -> Table:
    heads = (
        "Epoch",
        "Train loss",
        "Validation loss",
        "Validation accuracy",
        "Learning rate",
        "Time",
        "Rows per second",
    )
    shown = _spread_out(history)
    return Table(
        title=title,
        columns=tuple(Column(title=head, kind="number") for head in heads),
        rows=tuple(_epoch(row) for row in shown),
        note="" if len(shown) == len(history) else f"{len(shown)} of {len(history)} epochs.",
    )


def _spread_out(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(history) <= MOST_EPOCHS:
        return history
    last = len(history) - 1
    picks = sorted({round(i * last / (MOST_EPOCHS - 1)) for i in range(MOST_EPOCHS)})
    return [history[index] for index in picks]


def _epoch(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        show_count(as_number(row.get("epoch"))),
        show_number(as_number(row.get("train_loss"))),
        show_number(as_number(row.get("validation_loss"))),
        show_percent(as_number(row.get("validation_accuracy"))),
        show_number(as_number(row.get("learning_rate"))),
        show_seconds(as_number(row.get("elapsed_seconds"))),
        show_number(as_number(row.get("rows_per_second")), 3),
    )
