"""The split-integrity criterion: test set and training part, judged.

What was found is ``harness.data.leakage``'s; here it becomes a result with next steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pandas as pd

from harness.criteria.criterion import FAILS, Bench, Fault, Run
from harness.criteria.result import CriterionResult, State
from harness.data.leakage import IdentityBins, LeakReport

__all__ = [
    "FAULTS",
    "judge",
    "judge_split_integrity",
]


def judge(run: Run) -> CriterionResult:
    """Judge that test set and training part share nothing."""
    return judge_split_integrity(run.leaks(), identity=run.identity())


def judge_split_integrity(
    leaks: LeakReport, *, identity: IdentityBins | None = None
) -> CriterionResult:
    """Judge that nothing of the test set is in the training part.

    Parameters
    ----------
    leaks : LeakReport
        What ``find_leaks`` found.
    identity : IdentityBins, optional
        Best-hit identities of test against training proteins, for the report.

    Returns
    -------
    CriterionResult
        PASS only if nothing was found. ``value`` is the number of things found.
    """
    found = [f"{check.what}: {check.count}" for check in leaks.leaks]
    return CriterionResult(
        id="split-integrity",
        state=State.FAIL if found else State.PASS,
        value=Fraction(sum(check.count for check in leaks.leaks)),
        limit=Fraction(0),
        unit="leaks",
        detail="; ".join(found)
        or "No id, nucleotide sequence (either strand) or protein is in both parts.",
        next_steps=tuple(_next_steps(leaks)),
        evidence={
            "hard": [
                {"what": check.what, "count": check.count, "examples": list(check.examples)}
                for check in leaks.checks
            ],
            "soft": [
                {"what": n.what, "count": n.count, "share": float(n.share)} for n in leaks.nearby
            ],
            **_identity_evidence(identity),
        },
    )


def _identity_evidence(identity: IdentityBins | None) -> dict[str, Any]:
    if identity is None:
        return {}
    if not identity.is_measured:
        return {"identity_note": identity.remedy}
    n_rows = len(identity.rows)
    whole = "" if n_rows == identity.n_test else f"A sample of {n_rows:,} of {identity.n_test:,}. "
    return {
        "identity": [
            {"bin": f"{name} %", "n": n, "share": n / n_rows} for name, n in identity.counts.items()
        ],
        "identity_note": (
            f"{whole}Best hit of each test protein among the training proteins, MMseqs2 "
            f"{identity.version}, coverage at least 0.8; no hit counts as the lowest bin."
        ),
    }


def _next_steps(leaks: LeakReport) -> Iterator[str]:
    """Yield what was found where, the most frequent first, then how to be rid of it."""
    for check in sorted(leaks.leaks, key=lambda check: -check.count):
        examples = ", ".join(" and ".join(clash) for clash in check.examples)
        rest = check.count - len(check.examples)
        more = f" and {rest:,} more" if examples and rest > 0 else ""
        yield f"Look at {examples or 'the evidence'}{more}: {check.what}."
    if any(check.is_in_data for check in leaks.leaks):
        yield (
            "Take the sequences with two labels out of the viral or the nonviral files: no draw "
            "can mend them."
        )
    if any(not check.is_in_data for check in leaks.leaks):
        yield (
            "Then draw the split again with `harness split --redraw`: it keeps identical rows "
            "together."
        )


def _leaked_row(bench: Bench) -> Run:
    split = bench.run.split()
    train = pd.concat([split.train, split.test[:1]]).sort_values(ignore_index=True)
    return bench.with_split(replace(split, train=train))


FAULTS = (Fault(name="a test row in training", expected=FAILS, plant=_leaked_row),)
