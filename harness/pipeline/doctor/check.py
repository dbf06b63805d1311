"""One finding of the doctor, and how any exception becomes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from harness.errors import HarnessError, MissingInput

__all__ = ["Check", "State", "found", "note"]


class State(StrEnum):
    """How a check came out; only MISSING keeps the gate from starting."""

    OK = "ok"
    NOTE = "note"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding.

    Attributes
    ----------
    name : str
        What was looked at.
    state : State
        How it came out.
    detail : str
        What was found.
    remedy : str
        What to do about it; "" where nothing needs doing.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""


def found(name: str, look: Callable[[], str]) -> Check:
    """Return what ``look`` says; if it raises, the thing is missing."""
    try:
        return Check(name=name, state=State.OK, detail=look())
    except MissingInput as error:
        return Check(name=name, state=State.MISSING, detail=error.what, remedy=error.remedy)
    except HarnessError as error:
        return Check(name=name, state=State.MISSING, detail=str(error))
    except Exception as error:  # noqa: BLE001 - an odd machine is reported, not a crash
        return Check(name=name, state=State.MISSING, detail=_raised(error))


def note(name: str, look: Callable[[], Check]) -> Check:
    """Return what ``look`` finds of something that the gate can do without, or that it failed."""
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - an odd machine is reported, not a crash
        return Check(name=name, state=State.NOTE, detail=f"not found out: {_raised(error)}")


def _raised(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
