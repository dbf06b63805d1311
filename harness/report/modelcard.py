"""The model card beside a checkpoint, in the form that Hugging Face reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.content.metrics import metric_rows
from harness.report.content.outcome import read_criteria, read_outcome
from harness.report.content.reading import as_json, as_mapping, as_number, as_text
from harness.report.content.wording import side_name
from harness.report.escaping import visible
from harness.report.markdown import MARKDOWN_SYMBOLS, markdown_environment

__all__ = ["render_model_card"]

# Our metric names, as Hugging Face's leaderboards call them.
_METRIC_TYPES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "f1",
    "roc_auc": "roc_auc",
    "average_precision": "average_precision",
    "mcc": "matthews_correlation",
    "brier": "brier_score",
}


def render_model_card(verdict: Mapping[str, Any]) -> str:
    """Return the README of the candidate's head: evaluation, data, limits, and whether it may ship.

    Parameters
    ----------
    verdict : mapping
        What ``verdict.json`` holds; any part that the schema does not require may be missing.

    Returns
    -------
    str
        YAML metadata followed by markdown.
    """
    verdict = as_json(verdict)
    template = markdown_environment().get_template("modelcard.md.jinja")
    body = template.render(
        name=_name(verdict),
        outcome=read_outcome(verdict),
        criteria=read_criteria(verdict),
        metrics=metric_rows(verdict),
        symbols=MARKDOWN_SYMBOLS,
        baseline=side_name(verdict, "baseline"),
        candidate=side_name(verdict, "candidate"),
        embedder=as_text(as_mapping(verdict.get("candidate")).get("model")),
        checkpoint=_artifact(verdict, "checkpoint"),
        split=_artifact(verdict, "split"),
        counts={
            key: as_number(as_mapping(verdict.get("split")).get(key))
            for key in ("n_train", "n_validation", "n_test")
        },
    )
    return f"---\n{_metadata(verdict)}\n---\n\n{body.strip()}\n"


def _metadata(verdict: Mapping[str, Any]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    metrics = as_mapping(as_mapping(verdict.get("candidate")).get("metrics"))
    results = [
        EvalResult(
            task_type="text-classification",
            task_name="viral or not, per translated frame",
            dataset_type="virnucpro-harness-test",
            dataset_name="held-out test set of the acceptance gate",
            dataset_split="test",
            metric_type=_METRIC_TYPES.get(name, visible(name)),
            metric_value=number,
            metric_name=visible(name),
        )
        for name, value in metrics.items()
        if (number := as_number(value)) is not None
    ]
    outcome = read_outcome(verdict)
    base = visible(as_text(as_mapping(verdict.get("candidate")).get("model")))
    data = ModelCardData(
        model_name=_name(verdict),
        base_model=base or None,
        tags=["biology", "virus", "metagenomics", f"gate-{outcome.verdict.lower()}"]
        + (["rehearsal"] if "REHEARSAL" in outcome.short_mark else []),
        eval_results=results or None,
    )
    return str(data.to_yaml()).strip()


def _name(verdict: Mapping[str, Any]) -> str:
    return visible(f"VirNucPro head on {side_name(verdict, 'candidate')}")


def _artifact(verdict: Mapping[str, Any], name: str) -> str:
    return as_text(as_mapping(as_mapping(verdict.get("artifacts")).get(name)).get("sha256"))
