"""The report for other programs: the answer and the numbers, without the evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.report.content.outcome import read_outcome
from harness.report.content.reading import as_json, as_mapping, as_number, as_rows, as_texts

__all__ = ["render_json"]

_CRITERION_KEYS = ("state", "value", "limit", "unit", "interval", "detail", "next_steps")


def render_json(verdict: Mapping[str, Any]) -> str:
    """Return one JSON object: verdict, answer, criteria by id, metrics by side.

    Notes
    -----
    The evidence stays in ``verdict.json``. A value that is not a finite number becomes null, so
    that any JSON parser can read the result.
    """
    verdict = as_json(verdict)
    outcome = read_outcome(verdict)
    content = {
        "verdict": outcome.verdict,
        "answer": outcome.answer,
        "rehearsal": verdict.get("rehearsal") is not False,
        "profile": outcome.profile,
        "halted_by": list(as_texts(verdict.get("halted_by"))),
        "criteria": {
            str(row.get("id")): {key: row.get(key) for key in _CRITERION_KEYS}
            for row in as_rows(verdict.get("criteria"))
        },
        "metrics": {side: _metrics(verdict, side) for side in ("baseline", "candidate")},
    }
    return json.dumps(content, indent=2) + "\n"


def _metrics(verdict: Mapping[str, Any], side: str) -> dict[str, float | None]:
    metrics = as_mapping(as_mapping(verdict.get(side)).get("metrics"))
    return {name: as_number(number) for name, number in metrics.items()}
