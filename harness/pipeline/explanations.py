"""What a run knows besides its predictions that explains how accurate its heads are.

Where they come from, how they learned, which lineages they lost, which rows are of no known genome.
It changes no state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.gate import CriterionResult, State
from harness.gate.accuracy.advice import lineage_steps
from harness.gate.accuracy.learning import LearningCurve, learning_steps, read_curve
from harness.gate.predictions import name_some
from harness.pipeline.brought import warn_of_brought
from harness.pipeline.stages import Pipeline
from harness.pipeline.vectors import Side

__all__ = ["explain_baseline", "explain_drop"]


def explain_baseline(result: CriterionResult, pipeline: Pipeline) -> CriterionResult:
    """Add where the baseline's head comes from and, unless it passed, how it learned."""
    notes = (*warn_of_brought(pipeline.config, sides=("baseline",)), *_warn_of_unknown(pipeline))
    steps = result.next_steps
    if result.state is State.INCONCLUSIVE:
        steps += _name_unknown(pipeline)
    if result.state is not State.PASS:
        steps += learning_steps(_curves(pipeline).get("baseline"), name="baseline")
    return replace(result, warnings=(*result.warnings, *notes), next_steps=steps)


def explain_drop(
    result: CriterionResult,
    pipeline: Pipeline,
    *,
    lineages: Sequence[Mapping[str, Any]] = (),
) -> CriterionResult:
    """Add where both heads come from and, where the candidate lost, in which way it did.

    Parameters
    ----------
    result : CriterionResult
        The judged drop.
    pipeline : Pipeline
        Of the run; none of its stages is run.
    lineages : sequence of mappings
        The drop by lineage, as ``break_down`` returns it.
    """
    notes = (*warn_of_brought(pipeline.config), *_warn_of_unknown(pipeline))
    result = replace(result, warnings=(*result.warnings, *notes))
    if result.state is State.PASS:
        return result
    if result.state is State.INCONCLUSIVE:
        result = replace(result, next_steps=(*result.next_steps, *_name_unknown(pipeline)))
    if not result.value or result.value < 0:
        return result
    curves = _curves(pipeline)
    learned = learning_steps(curves.get("candidate"), curves.get("baseline"))
    return replace(result, next_steps=(*result.next_steps, *lineage_steps(lineages), *learned))


def _warn_of_unknown(pipeline: Pipeline) -> tuple[str, ...]:
    n_unknown, n_rows = len(pipeline.samples.without_taxonomy()), len(pipeline.samples.part("test"))
    text = (
        f"{n_unknown:,} of {n_rows:,} test rows are of accessions that the taxonomy does not "
        "know; they count as one genome"
    )
    return (text,) if n_unknown else ()


def _name_unknown(pipeline: Pipeline) -> tuple[str, ...]:
    names = pipeline.samples.without_taxonomy()["accession"].drop_duplicates().tolist()
    return (f"Add to the taxonomy: {name_some(names)}",) if names else ()


def _curves(pipeline: Pipeline) -> dict[Side, LearningCurve]:
    return {side: read_curve(facts) for side, facts in pipeline.trainings().items()}
