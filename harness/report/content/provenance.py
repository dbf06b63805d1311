"""The last sections: stages and time, environment and reproduction, what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.content.document import (
    Block,
    Code,
    Column,
    Criterion,
    Items,
    Paragraph,
    Section,
    Table,
)
from harness.report.content.evidence import evidence_blocks, evidence_of, facts_table, no_evidence
from harness.report.content.reading import as_mapping, as_number, as_rows, as_text
from harness.report.content.wording import ABSENT, label, show_bytes, show_count, show_seconds

__all__ = ["environment_section", "next_steps_section", "other_section", "stages_section"]


def stages_section(verdict: Mapping[str, Any]) -> Section:
    """Return how long each stage took, and which were reused."""
    stages = as_rows(verdict.get("stages"))
    times = [as_number(stage.get("elapsed_seconds")) for stage in stages]
    rows = [
        (
            as_text(stage.get("name")) or ABSENT,
            show_seconds(time),
            "reused" if stage.get("is_reused") is True else "computed",
        )
        for stage, time in zip(stages, times, strict=True)
    ]
    blocks: list[Block] = []
    if rows:
        rows.append(("All stages", show_seconds(sum(t for t in times if t is not None)), ""))
        columns = (Column(title="Stage"), Column(title="Time", kind="number"), Column(title="How"))
        blocks.append(Table(title="Time of each stage", columns=columns, rows=tuple(rows)))
    peak = as_number(verdict.get("peak_memory_bytes"))
    if peak is not None:
        blocks.append(Paragraph(text=f"Peak memory: {show_bytes(peak)}."))
    return Section(
        title="Stages and time",
        anchor="stages-and-time",
        blocks=tuple(blocks) or (no_evidence("The time of the stages"),),
    )


def environment_section(verdict: Mapping[str, Any]) -> Section:
    """Return the models, artifacts, environment and the command that reproduces the run."""
    blocks: list[Block] = []
    if command := as_text(verdict.get("command")):
        blocks += [Paragraph(text="To reproduce this run:"), Code(text=command)]
    if models := _models(verdict):
        blocks.append(models)
    artifacts = as_mapping(verdict.get("artifacts"))
    if artifacts:
        blocks.append(_artifacts(artifacts))
    if environment := as_mapping(verdict.get("environment")):
        blocks.append(facts_table(environment, title="Environment"))
    return Section(
        title="Environment and reproduction",
        anchor="environment-and-reproduction",
        blocks=tuple(blocks) or (no_evidence("The environment"),),
    )


def next_steps_section(criteria: Sequence[Criterion]) -> Section:
    """Return what to do about every criterion that is not PASS."""
    blocks: list[Block] = []
    for criterion in criteria:
        if criterion.state != "PASS" and criterion.next_steps:
            blocks.append(Paragraph(text=f"{criterion.id} ({criterion.state_words}):"))
            blocks.append(Items(items=criterion.next_steps))
    nothing = Paragraph(text="Nothing is open: no criterion asks for anything.")
    return Section(title="Next steps", anchor="next-steps", blocks=tuple(blocks) or (nothing,))


def other_section(verdict: Mapping[str, Any], known: Sequence[str]) -> Section | None:
    """Return the evidence of criteria that have no section of their own; None if there is none."""
    names = [as_text(row.get("id")) for row in as_rows(verdict.get("criteria"))]
    blocks = [
        block
        for name in dict.fromkeys(names)
        if name not in known
        for block in evidence_blocks(evidence_of(verdict, name), title=name)
    ]
    if not blocks:
        return None
    return Section(title="Other criteria", anchor="other-criteria", blocks=tuple(blocks))


def _models(verdict: Mapping[str, Any]) -> Table | None:
    keys = ("name", "model", "dtype", "dim", "parameters", "is_random", "model_sha256")
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
    columns = (
        Column(title="Artifact"),
        Column(title="Path", kind="code"),
        Column(title="sha256", kind="code"),
    )
    rows = tuple(
        (name, *(as_text(as_mapping(entry).get(key)) or ABSENT for key in ("path", "sha256")))
        for name, entry in artifacts.items()
    )
    return Table(title="Artifacts", columns=columns, rows=rows)
