"""The criteria: one list of them; numbers and limits in, a result out.

``CRITERIA`` holds everything that the gate requires. What is required, the report's words and
sections, the self-test's faults and the limits of ``harness verify`` follow from it. Another
package adds a criterion by an entry point of the group ``harness.criteria`` (docs/criteria.md).

``judge_accuracy`` and ``judge_time`` are useful on their own. They are imported when first asked
for, so that reading a verdict loads no statistics (``harness verify`` answers at once).
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from harness.config import DEPLOYMENT_DROP_POINTS, DEPLOYMENT_TIME_RATIO
from harness.criteria.criterion import GROUP, Criterion, Fault, load_criteria
from harness.criteria.result import CriterionResult, State

if TYPE_CHECKING:
    from harness.criteria.accuracy import judge_accuracy
    from harness.criteria.speed import judge_time

__all__ = [
    "CRITERIA",
    "REQUIRED_CRITERIA",
    "Criterion",
    "CriterionResult",
    "Fault",
    "State",
    "find_criterion",
    "judge_accuracy",
    "judge_time",
]

_OWN = (
    Criterion(
        id="accuracy-drop",
        question="How much accuracy does the candidate lose against the baseline?",
        unit="points",
        comparison="below",
        module="harness.criteria.accuracy",
        section="Accuracy",
        has_own_blocks=True,
        deployment_limit=DEPLOYMENT_DROP_POINTS,
    ),
    Criterion(
        id="embedding-time",
        question="How long does the candidate take to embed, against the baseline?",
        unit="times the baseline's time",
        comparison="at most",
        module="harness.criteria.speed",
        section="Speed",
        has_own_blocks=True,
        deployment_limit=DEPLOYMENT_TIME_RATIO,
    ),
    Criterion(
        id="representative-split",
        question="Is the test set like the data it was drawn from?",
        unit="failed checks",
        comparison="at most",
        module="harness.criteria.representative",
        section="Test set",
        has_own_blocks=True,
    ),
    Criterion(
        id="split-integrity",
        question="Do test and training part share a sequence?",
        unit="leaks",
        comparison="at most",
        module="harness.criteria.split_integrity",
        section="Test set",
        has_own_blocks=True,
    ),
    Criterion(
        id="baseline-sanity",
        question="Is the baseline better than a constant answer?",
        unit="percent",
        comparison="lower end above",
        module="harness.criteria.baseline",
        section="Accuracy",
        has_own_blocks=True,
    ),
    Criterion(
        id="embedding-integrity",
        question="Is every stored embedding what its model computes?",
        unit="problems",
        comparison="at most",
        module="harness.criteria.embedding_integrity",
        section="Embeddings",
        has_own_blocks=True,
    ),
    Criterion(
        id="assay-sensitivity",
        question="Could this test set show the loss of the protein embedder?",
        unit="points",
        comparison="lower end above",
        module="harness.criteria.assay_sensitivity",
        section="Accuracy",
    ),
)
CRITERIA = (*_OWN, *load_criteria(entry_points(group=GROUP), beside=_OWN))
REQUIRED_CRITERIA = tuple(criterion.id for criterion in CRITERIA)


def find_criterion(criterion_id: str) -> Criterion:
    """Return the criterion of that name.

    Raises
    ------
    ValueError
        If there is none.
    """
    for criterion in CRITERIA:
        if criterion.id == criterion_id:
            return criterion
    raise ValueError(f"no criterion {criterion_id!r}; there are {', '.join(REQUIRED_CRITERIA)}")


_MODULES = {"judge_accuracy": "accuracy", "judge_time": "speed"}


def __getattr__(name: str) -> Any:
    """Import a public function from its module (PEP 562)."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
