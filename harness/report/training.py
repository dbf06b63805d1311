"""What is said about training: how both heads were trained, and when they stopped.

How the embeddings were made: their pace, on how many processes, with how much of a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.report.document import (
    ABSENT,
    Block,
    Column,
    Note,
    Table,
    show_bytes,
    show_count,
    show_number,
    show_percent,
    show_seconds,
    side_columns,
    side_name,
)
from harness.report.evidence import evidence_blocks, show_value
from harness.report.reading import as_mapping, as_number, as_rows

__all__ = [
    "extraction_blocks",
    "training_blocks",
]


_COLUMNS = (
    "Sequences",
    "Time",
    "Sequences per second",
    "Tokens per second",
    "Share of the device's peak",
    "Processes",
    "GPU memory",
)


def extraction_blocks(verdict: Mapping[str, Any]) -> list[Block]:
    """Return how each store was made; a warning of each that ran out of memory comes first."""
    stores = as_mapping(verdict.get("extraction"))
    facts = {name: as_mapping(stores[name]) for name in stores}
    named = {_name(verdict, name): store for name, store in facts.items()}
    return [*_memory_notes(named), _table(named)] if facts else []


def _name(verdict: Mapping[str, Any], store: str) -> str:
    """Return a store's name and its model's, marked where its weights are random."""
    title = store.capitalize()
    return f"{title}: {side_name(verdict, store)}" if verdict.get(store) else title


def _memory_notes(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[Note]:
    for name, store in facts.items():
        if times := as_number(store.get("n_out_of_memory")):
            yield Note(
                text=f"{name}: GPU memory ran out {show_count(times)} "
                f"time{'' if times == 1 else 's'} while it was embedded; batches were halved."
            )


def _table(facts: Mapping[str, Mapping[str, Any]]) -> Table:
    cells = [_cells(store) for store in facts.values()]
    known = [
        number for number in range(len(_COLUMNS)) if {row[number] for row in cells} != {ABSENT}
    ]
    return Table(
        title="How they were made",
        columns=(Column(title="Store"), *(Column(title=_COLUMNS[n], kind="number") for n in known)),
        rows=tuple(
            (name, *(row[n] for n in known)) for name, row in zip(facts, cells, strict=True)
        ),
        note="By the call that finished the store, in this run or an earlier one. On GPUs each "
        "process has one; its memory is the most that one of them held, with all models that it "
        "had loaded.",
    )


def _cells(store: Mapping[str, Any]) -> tuple[str, ...]:
    sequences, seconds = (as_number(store.get(key)) for key in ("n_sequences", "elapsed_seconds"))
    share = _per(_per(as_number(store.get("flop")), seconds), as_number(store.get("peak_flops")))
    rows = as_number(store.get("n_rows"))
    part = "" if rows in (None, sequences) else f" of {show_count(rows)}"
    return (
        f"{show_count(sequences)}{part}",
        show_seconds(seconds),
        show_count(_per(sequences, seconds)),
        show_count(_per(as_number(store.get("n_tokens")), seconds)),
        show_percent(share),
        show_count(as_number(store.get("n_processes"))),
        show_bytes(as_number(store.get("gpu_memory_bytes"))),
    )


def _per(amount: float | None, unit: float | None) -> float | None:
    """Return a rate; None where one of both is unknown or nothing."""
    return amount / unit if amount and unit else None


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
