"""The order of the report: which sections there are, and which figures stand in which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.criteria import CRITERIA, REQUIRED_CRITERIA
from harness.report.accuracy import accuracy_blocks, breakdown_blocks
from harness.report.dataset import dataset_blocks
from harness.report.document import Block, Document, Figure, Paragraph, Picture, Section
from harness.report.evidence import (
    environment_blocks,
    evidence_blocks,
    evidence_of,
    next_steps_blocks,
    other_blocks,
    stages_blocks,
)
from harness.report.outcome import read_blockers, read_criteria, read_outcome
from harness.report.reading import as_json
from harness.report.speed import speed_blocks
from harness.report.training import extraction_blocks, training_blocks

__all__ = [
    "build_document",
]


# Drawn from the predictions table; without it the report says that they are missing.
_SCORE_FIGURES = ("roc", "precision-recall", "calibration", "scores")
NO_SCORES = (
    "The ROC and precision-recall curves, the calibration and the score scatter are not drawn: "
    "the predictions table that the verdict names is not at hand, or holds no such scores."
)
# Sections that show what the models did, so that a rehearsal must be marked.
_MODEL_NUMBERS = (
    *("Accuracy", "Where it lost and gained", "Speed", "Training", "Other criteria"),
    *(criterion.section for criterion in CRITERIA if not criterion.has_own_blocks),
)


def build_document(verdict: Mapping[str, Any], figures: Sequence[Figure] = ()) -> Document:
    """Return the report on one verdict.

    Parameters
    ----------
    verdict : mapping
        What ``verdict.json`` holds; any part that the schema does not require may be missing.
    figures : sequence of Figure
        What was drawn for it; each is put into the section it belongs to.

    Returns
    -------
    Document
        Only the sections that have something to show; the others are named in ``not_reached``.
    """
    verdict = as_json(verdict)
    criteria = read_criteria(verdict)
    blockers = read_blockers(criteria)
    drawn = {figure.name: figure for figure in figures}

    def pictures(*names: str) -> list[Block]:
        return [Picture(figure=drawn[name]) for name in names if name in drawn]

    embeddings = evidence_of(verdict, "embedding-integrity")
    contents = {
        "Accuracy": accuracy_blocks(verdict, pictures("confusion", *_SCORE_FIGURES)),
        "Where it lost and gained": breakdown_blocks(verdict, pictures("drop")),
        "Speed": speed_blocks(verdict, pictures("timing")),
        "Test set": dataset_blocks(
            verdict, pictures("lineages", "length", "gc", "identity", "trend")
        ),
        "Embeddings": [
            *evidence_blocks(embeddings, title="Stored embeddings"),
            *extraction_blocks(verdict),
        ],
        "Training": training_blocks(verdict, pictures("training")),
        "Stages and time": stages_blocks(verdict),
        "Environment and reproduction": environment_blocks(verdict),
    }
    for criterion in CRITERIA:
        if not criterion.has_own_blocks:
            tables = evidence_blocks(evidence_of(verdict, criterion.id), title=criterion.id)
            contents.setdefault(criterion.section, []).extend(tables)
    not_reached = tuple(title for title, blocks in contents.items() if not blocks)
    if contents["Accuracy"] and not any(name in drawn for name in _SCORE_FIGURES):
        contents["Accuracy"].append(Paragraph(text=NO_SCORES))
    contents["Other criteria"] = other_blocks(verdict, REQUIRED_CRITERIA)
    contents["Next steps"] = next_steps_blocks(blockers)
    return Document(
        outcome=read_outcome(verdict),
        criteria=criteria,
        blockers=blockers,
        sections=tuple(_section(title, blocks) for title, blocks in contents.items() if blocks),
        not_reached=not_reached,
    )


def _section(title: str, blocks: list[Block]) -> Section:
    return Section(
        title=title,
        anchor=title.lower().replace(" ", "-"),
        blocks=tuple(blocks),
        has_model_numbers=title in _MODEL_NUMBERS,
    )
