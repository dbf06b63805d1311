"""The published schema of ``verdict.json``, and what the stages may put into it."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema

from harness.errors import ArtifactError

__all__ = ["check_facts", "check_schema"]

SCHEMA_PATH = Path(__file__).with_name("verdict.schema.json")

# What the stages may report; the rest of a verdict is the gate's own.
FACTS = (
    "baseline",
    "candidate",
    "differences",
    "breakdowns",
    "data",
    "split",
    "training",
    "timing",
    "extraction",
    "stages",
    "peak_memory_bytes",
    "artifacts",
    "rehearsal_reasons",
    "looser_than_deployment",
    "selftest",
)


def check_facts(parts: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """Join what the stages report, and keep what a verdict can hold.

    Parameters
    ----------
    parts : iterable of mappings
        What each provider reports, by top-level key of the verdict.

    Returns
    -------
    kept : dict of JSON values
        The usable facts, with tuples turned into lists.
    problems : list of str
        One line for each fact that is unknown, told twice, no JSON, or against the schema.
    """
    kept: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in (item for part in parts for item in part.items()):
        try:
            _refuse_second(name, kept)
            kept[name] = _check_fact(name, value)
        except (TypeError, ValueError) as error:
            problems.append(f"the reported {name!r} cannot be used: {error}")
    return kept, problems


def check_schema(verdict: Any, *, origin: str) -> None:
    """Raise ArtifactError, naming the origin, unless this is a verdict."""
    error = jsonschema.exceptions.best_match(_validator(_schema()).iter_errors(verdict))
    if error is not None:
        raise ArtifactError(f"{origin}: not a verdict: {error.json_path}: {error.message}")


def _refuse_second(name: str, kept: Mapping[str, Any]) -> None:
    if name in kept:
        raise ValueError("it was reported twice")


def _check_fact(name: str, value: Any) -> Any:
    if name not in FACTS:
        raise ValueError(f"known are {', '.join(FACTS)}")
    plain = json.loads(json.dumps(value, allow_nan=False))
    schema = {**_schema(), "required": []}
    error = jsonschema.exceptions.best_match(_validator(schema).iter_errors({name: plain}))
    if error is not None:
        raise ValueError(f"{error.json_path}: {error.message}")
    return plain


@functools.cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    return schema


def _validator(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema)
