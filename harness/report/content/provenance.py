"""What is said last: stages and time, environment and reproduction, what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.content.document import (
    Block,
    Blocker,
    Code,
    Column,
    Items,
    Paragraph,
    Table,
)
from harness.report.content.evidence import evidence_blocks, evidence_of
from harness.report.content.reading import as_mapping, as_number, as_rows, as_text
from harness.report.content.wording import ABSENT, label, show_bytes, show_count, show_seconds

__all__ = ["environment_blocks", "next_steps_blocks", "other_blocks", "stages_blocks"]


def stages_blocks(verdict: Mapping[str, Any]) -> list[Block]:
    """Return how long each stage took, what it held on a GPU, and which were reused."""
    stages = as_rows(verdict.get("stages"))
    blocks: list[Block] = [_stages_table(stages)] if stages else []
    peak = as_number(verdict.get("peak_memory_bytes"))
    if peak is not None:
        blocks.append(Paragraph(text=f"Peak memory: {show_bytes(peak)}."))
    if any(as_number(stage.get("gpu_memory_bytes")) is not None for stage in stages):
        text = (
            "GPU memory: the most that tensors of this process took. Where several GPUs embed, "
            "each has a process of its own: what these took stands with the embeddings."
        )
        blocks.append(Paragraph(text=text))
    return blocks


def environment_blocks(verdict: Mapping[str, Any]) -> list[Block]:
    """Return the models, artifacts, environment and the command that reproduces the run."""
    blocks: list[Block] = []
    if command := as_text(verdict.get("command")):
        blocks += [Paragraph(text="To reproduce this run:"), Code(text=command)]
    if models := _models(verdict):
        blocks.append(models)
    if artifacts := as_mapping(verdict.get("artifacts")):
        blocks.append(_artifacts(artifacts))
    if selftest := as_mapping(verdict.get("selftest")):
        blocks.append(Paragraph(text=_selftest(selftest)))
    return blocks + evidence_blocks(as_mapping(verdict.get("environment")), title="Environment")


def next_steps_blocks(blockers: Sequence[Blocker]) -> list[Block]:
    """Return what to do about every criterion that is not PASS."""
    blocks: list[Block] = []
    for blocker in blockers:
        names = ", ".join(blocker.criteria)
        blocks.append(Paragraph(text=f"{names} ({blocker.state_words}): {blocker.detail}"))
        blocks += [Items(items=blocker.next_steps)] if blocker.next_steps else []
    return blocks or [Paragraph(text="Nothing is open: no criterion asks for anything.")]


def other_blocks(verdict: Mapping[str, Any], known: Sequence[str]) -> list[Block]:
    """Return the evidence of criteria that have no section of their own."""
    names = [as_text(row.get("id")) for row in as_rows(verdict.get("criteria"))]
    return [
        block
        for name in dict.fromkeys(names)
        if name not in known
        for block in evidence_blocks(evidence_of(verdict, name), title=name)
    ]


def _stages_table(stages: list[dict[str, Any]]) -> Table:
    times = [as_number(stage.get("elapsed_seconds")) for stage in stages]
    peaks = [as_number(stage.get("gpu_memory_bytes")) for stage in stages]
    columns = [Column(title="Stage"), Column(title="Time", kind="number"), Column(title="How")]
    rows = [
        [
            as_text(stage.get("name")) or ABSENT,
            show_seconds(time),
            "reused" if stage.get("is_reused") is True else "computed",
        ]
        for stage, time in zip(stages, times, strict=True)
    ]
    rows.append(["All stages", show_seconds(sum(t for t in times if t is not None)), ""])
    known = [peak for peak in peaks if peak is not None]
    if known:
        columns.append(Column(title="GPU memory", kind="number"))
        for row, peak in zip(rows, [*peaks, max(known)], strict=True):
            row.append(show_bytes(peak))
    title = "Time and GPU memory of each stage" if known else "Time of each stage"
    return Table(title=title, columns=tuple(columns), rows=tuple(map(tuple, rows)))


def _selftest(selftest: Mapping[str, Any]) -> str:
    passed, total = (as_number(selftest.get(key)) for key in ("passed", "total"))
    if passed is None or total is None:
        return "The gate's self-test left no usable result."
    finished = as_text(selftest.get("finished")) or ABSENT
    text = f"{show_count(passed)} of {show_count(total)} planted faults were taken as expected"
    return f"Self-test of the gate with this configuration, {finished}: {text}."


def _models(verdict: Mapping[str, Any]) -> Table | None:
    keys = (
        *("name", "model", "dtype", "dim", "parameters", "is_random", "model_sha256"),
        "may_have_seen_test_rows",
    )
    sides = [as_mapping(verdict.get(side)) for side in ("baseline", "candidate")]
    rows = tuple(
        (label(key), *(_model_fact(side.get(key)) for side in sides))
        for key in keys
        if any(side.get(key) is not None for side in sides)
    )
    columns = (Column(title="Embedder"), Column(title="Baseline"), Column(title="Candidate"))
    return Table(title="Models", columns=columns, rows=rows) if rows else None


def _model_fact(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    number = as_number(value) if isinstance(value, int) else None
    return show_count(number) if number is not None else as_text(value) or ABSENT


def _artifacts(artifacts: Mapping[str, Any]) -> Table:
    code = (Column(title="Path", kind="code"), Column(title="sha256", kind="code"))
    rows = tuple(
        (name, *(as_text(as_mapping(entry).get(key)) or ABSENT for key in ("path", "sha256")))
        for name, entry in artifacts.items()
    )
    return Table(title="Artifacts", columns=(Column(title="Artifact"), *code), rows=rows)
