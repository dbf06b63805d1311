"""The order of the report: which sections there are, and which figures stand in which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.gate.result import REQUIRED_CRITERIA
from harness.report.content.accuracy import accuracy_section, breakdown_section
from harness.report.content.dataset import dataset_section, embeddings_section
from harness.report.content.document import Block, Document, Figure, Paragraph, Picture
from harness.report.content.outcome import read_criteria, read_outcome
from harness.report.content.provenance import (
    environment_section,
    next_steps_section,
    other_section,
    stages_section,
)
from harness.report.content.speed import speed_section
from harness.report.content.training import training_section

__all__ = ["SCORE_FIGURES", "build_document"]

# Drawn from the predictions table; without it the report says that they are missing.
SCORE_FIGURES = ("roc", "precision-recall", "calibration", "scores")
NO_SCORES = (
    "The ROC and precision-recall curves, the calibration and the score scatter are not drawn: "
    "the predictions table that the verdict names is not at hand, or holds no such scores."
)


def build_document(verdict: Mapping[str, Any], figures: Sequence[Figure] = ()) -> Document:
    """Return the report on one verdict.

    Parameters
    ----------
    verdict : mapping
        What ``verdict.json`` holds; any part that the schema does not require may be missing.
    figures : sequence of Figure
        What was drawn for it; each is put into the section it belongs to.
    """
    drawn = {figure.name: figure for figure in figures}

    def pictures(*names: str) -> list[Block]:
        return [Picture(figure=drawn[name]) for name in names if name in drawn]

    accuracy = pictures("confusion", *SCORE_FIGURES)
    if not any(name in drawn for name in SCORE_FIGURES):
        accuracy.append(Paragraph(text=NO_SCORES))
    criteria = read_criteria(verdict)
    sections = (
        accuracy_section(verdict, accuracy),
        breakdown_section(verdict, pictures("drop")),
        speed_section(verdict, pictures("timing")),
        dataset_section(verdict, pictures("lineages", "length", "gc")),
        embeddings_section(verdict),
        training_section(verdict, pictures("training")),
        other_section(verdict, REQUIRED_CRITERIA),
        stages_section(verdict),
        environment_section(verdict),
        next_steps_section(criteria),
    )
    return Document(
        outcome=read_outcome(verdict),
        criteria=criteria,
        sections=tuple(section for section in sections if section is not None),
    )
