"""How the embeddings were made: their pace, on how many processes, with how much of a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.report.content.document import Block, Column, Note, Table
from harness.report.content.reading import as_mapping, as_number
from harness.report.content.wording import (
    ABSENT,
    show_bytes,
    show_count,
    show_percent,
    show_seconds,
    side_name,
)

__all__ = ["extraction_blocks"]

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
