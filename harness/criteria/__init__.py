"""The criteria: one list of them; numbers and limits in, a result out.

``CRITERIA`` holds everything that the gate requires. What is required, the report's words and
sections, the self-test's faults and the limits of ``harness verify`` follow from it. A package
adds a criterion of its own by an entry point of the group ``harness.criteria`` that names a
``Criterion``.

``judge_accuracy`` and ``judge_time`` are useful on their own. Such a name is imported when it is
first asked for, so that reading a verdict loads no statistics (``harness verify`` answers at once).
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from harness.config import DEPLOYMENT_DROP_POINTS, DEPLOYMENT_TIME_RATIO
from harness.criteria.criterion import Criterion, Fault
from harness.criteria.result import CriterionResult, State
from harness.errors import ConfigError

if TYPE_CHECKING:
    from harness.criteria.accuracy import judge_accuracy, judge_accuracy_unpaired
    from harness.criteria.baseline import judge_baseline, judge_baseline_unpaired
    from harness.criteria.embedding_integrity import (
        StoreInspection,
        inspect_store,
        judge_embeddings,
    )
    from harness.criteria.intervals import compare_metrics
    from harness.criteria.metrics import break_down, evaluate, large_moves, predict_labels
    from harness.criteria.representative import judge_representative
    from harness.criteria.speed import judge_time
    from harness.criteria.split_integrity import judge_split_integrity

__all__ = [
    "CRITERIA",
    "REQUIRED_CRITERIA",
    "Criterion",
    "CriterionResult",
    "Fault",
    "State",
    "StoreInspection",
    "break_down",
    "compare_metrics",
    "evaluate",
    "find_criterion",
    "inspect_store",
    "judge_accuracy",
    "judge_accuracy_unpaired",
    "judge_baseline",
    "judge_baseline_unpaired",
    "judge_embeddings",
    "judge_representative",
    "judge_split_integrity",
    "judge_time",
    "large_moves",
    "predict_labels",
]

GROUP = "harness.criteria"


def _load(entry: EntryPoint) -> Criterion:
    """Return the criterion that another package adds."""
    try:
        criterion = entry.load()
    except Exception as error:
        raise ConfigError(
            f"the criterion {entry.name!r} ({entry.value}) cannot be loaded: {error!r}. Mend the "
            "package that adds it, or uninstall it"
        ) from error
    if not isinstance(criterion, Criterion):
        raise ConfigError(
            f"the entry point {entry.name!r} of {GROUP}: expected {entry.value} to be a Criterion, "
            f"got {criterion!r}. Mend the package that adds it, or uninstall it"
        )
    return criterion


CRITERIA = (
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
        unit="of the baseline's time",
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
    *map(_load, entry_points(group=GROUP)),
)
REQUIRED_CRITERIA = tuple(criterion.id for criterion in CRITERIA)
if len(set(REQUIRED_CRITERIA)) < len(REQUIRED_CRITERIA):
    raise ConfigError(
        f"two criteria of one name: {', '.join(REQUIRED_CRITERIA)}. Rename the one that an entry "
        f"point of {GROUP} adds, or uninstall its package"
    )


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


_MODULES = {
    "accuracy": ("judge_accuracy", "judge_accuracy_unpaired"),
    "baseline": ("judge_baseline", "judge_baseline_unpaired"),
    "embedding_integrity": ("StoreInspection", "inspect_store", "judge_embeddings"),
    "intervals": ("compare_metrics",),
    "metrics": ("break_down", "evaluate", "large_moves", "predict_labels"),
    "representative": ("judge_representative",),
    "speed": ("judge_time",),
    "split_integrity": ("judge_split_integrity",),
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562)."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
