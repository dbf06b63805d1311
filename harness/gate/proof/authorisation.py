"""Whether a verdict authorises a file: what a deployment asks before it ships a head."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from harness.artifacts import digest_file
from harness.config.settings import (
    DEPLOYMENT_DROP_POINTS,
    DEPLOYMENT_RUNS,
    DEPLOYMENT_SEQUENCES,
    DEPLOYMENT_TIME_RATIO,
)
from harness.errors import HarnessError, MissingInput
from harness.gate.proof.verdict import read_verdict

__all__ = ["NotAuthorised", "authorise"]

DEPLOYMENT_LIMITS = {
    "accuracy-drop": DEPLOYMENT_DROP_POINTS,
    "embedding-time": DEPLOYMENT_TIME_RATIO,
}


class NotAuthorised(HarnessError):  # noqa: N818 - says what is so, not what broke
    """The file may not be deployed on the strength of this verdict."""


def authorise(checkpoint: Path, verdict_path: Path) -> None:
    """Raise unless the verdict is a PASS, no rehearsal, on deployment limits, for this very file.

    Parameters
    ----------
    checkpoint : Path
        The head that is to be deployed.
    verdict_path : Path
        A ``verdict.json``.

    Raises
    ------
    MissingInput
        If the checkpoint is not there.
    ArtifactError
        If the verdict cannot be read, was edited, or contradicts itself.
    NotAuthorised
        For every other reason; all that hold are said.
    """
    if not checkpoint.is_file():
        raise MissingInput(f"There is no {checkpoint}", remedy="Name the head's file")
    verdict = read_verdict(verdict_path)
    if reasons := list(_objections(verdict)):
        raise NotAuthorised(f"{verdict_path}: {'; '.join(reasons)}")
    expected = verdict.get("artifacts", {}).get("checkpoint", {}).get("sha256")
    if expected is None:
        raise NotAuthorised(
            f"{verdict_path}: names no checkpoint, since the candidate's head was not trained by "
            "that run; it authorises none"
        )
    if (found := digest_file(checkpoint)) != expected:
        raise NotAuthorised(
            f"{checkpoint}: sha256 {found} is not the one that was judged, {expected}. "
            "Deploy the judged file, or run the gate on this one"
        )


def _objections(verdict: Mapping[str, Any]) -> Iterator[str]:
    """Yield why a verdict authorises nothing, whatever the file."""
    if verdict["verdict"] != "PASS":
        reasons = "; ".join(verdict["halted_by"]) or "the run has not ended"
        yield f"the verdict is {verdict['verdict']} ({reasons})"
        return  # what was not reached need not be listed
    if verdict["profile"] != "production":
        yield f"the profile is {verdict['profile']}; only the production profile judges a model"
    if verdict["rehearsal"]:
        yield f"the run was a rehearsal ({'; '.join(verdict.get('rehearsal_reasons', []))})"
    if loose := verdict.get("looser_than_deployment"):
        yield f"looser than a deployment allows: {', '.join(loose)}"
    yield from _loose_limits(verdict)
    yield from _missing_rounds(verdict.get("timing", {}))
    yield from _missing_sequences(verdict)


def _loose_limits(verdict: Mapping[str, Any]) -> Iterator[str]:
    """Yield the limits that were really used and are looser, whatever the settings are said to be.

    A limit is rounded for display, so the value that passed, which is exact, is compared as well.
    """
    rows = {row["id"]: row for row in verdict["criteria"]}
    for name, allowed in DEPLOYMENT_LIMITS.items():
        row = rows[name]
        limit = _decimal(row["limit"])
        if limit is None or None in (row["numerator"], row["denominator"]):
            yield f"{name} names no limit or no value"
        elif limit > allowed:
            yield f"{name} was judged by {row['limit']}, and a deployment allows {float(allowed):g}"
        elif Fraction(row["numerator"], row["denominator"] or 1) > allowed:
            yield f"{name} is {row['value']}, over the {float(allowed):g} that a deployment allows"


def _missing_rounds(timing: Mapping[str, Any]) -> Iterator[str]:
    """Yield the sides with fewer timed rounds than a deployment asks for."""
    for side in ("baseline", "candidate"):
        rounds = [x for x in timing.get(f"{side}_seconds", []) if _is_duration(x)]
        if len(rounds) < DEPLOYMENT_RUNS:
            yield f"the {side} has {len(rounds)} timed rounds of at least {DEPLOYMENT_RUNS}"


def _missing_sequences(verdict: Mapping[str, Any]) -> Iterator[str]:
    """Yield that fewer sequences were timed than a deployment asks for, or than there are."""
    timed = verdict.get("timing", {}).get("n_sequences", 0)
    fewest = min(DEPLOYMENT_SEQUENCES, verdict.get("split", {}).get("n_test", DEPLOYMENT_SEQUENCES))
    if timed < fewest:
        yield f"{timed:,} sequences were timed of at least {fewest:,}"


def _is_duration(seconds: object) -> bool:
    return isinstance(seconds, int | float) and math.isfinite(seconds) and seconds > 0


def _decimal(text: str | None) -> Fraction | None:
    try:
        return None if text is None else Fraction(text)
    except ValueError:
        return None
