"""One line of ``verdicts.jsonl``: a verdict that was given before, as a later run reads it."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Self

__all__ = ["PastVerdict", "parse_lines"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PastVerdict:
    """One line of the history.

    Attributes
    ----------
    finished : str
        When the run ended, as ISO 8601 in UTC.
    verdict : str
        ``PASS`` or ``HALT``.
    profile : str
        ``tiny`` or ``production``.
    rehearsal : bool
        Whether the run could authorise nothing.
    candidate : str
        The candidate's name.
    model_sha256, checkpoint_sha256 : str or None
        Digests of the candidate's embedder weights and of its head.
    test_sha256 : str
        Digest of the test set's ids.
    drop_points, upper_bound_points : float or None
        The accuracy drop, judged or only shown, and the 95% bound on it, in percentage points;
        None if it is not known.
    time_ratio : float or None
        The candidate's embedding time over the baseline's; None if not judged.
    looks : int
        How often the candidate's accuracy had been seen on this test set, this run included.
    digest : str
        The ``digest`` of the run's ``verdict.json``.
    """

    finished: str
    verdict: str
    profile: str
    rehearsal: bool
    candidate: str
    model_sha256: str | None
    checkpoint_sha256: str | None
    test_sha256: str
    drop_points: float | None
    upper_bound_points: float | None
    time_ratio: float | None
    looks: int
    digest: str

    @property
    def is_look(self) -> bool:
        """Whether the run learned how accurate the candidate is on the test set."""
        return self.drop_points is not None

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read one line.

        Raises
        ------
        ValueError
            If it is no JSON object, or keys are missing, unknown or of another type.
        """
        content = json.loads(line)
        known = {item.name for item in fields(cls)}
        if not isinstance(content, dict) or set(content) != known:
            raise ValueError(f"expected an object with {', '.join(sorted(known))}")
        wrong = [name for name, value in content.items() if type(value) not in _TYPES[name]]
        if wrong:
            raise ValueError(f"{wrong[0]} is {content[wrong[0]]!r}")
        return cls(**content)


_TEXTS = ("finished", "verdict", "profile", "candidate", "test_sha256", "digest")
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(_TEXTS, (str,)),
    **dict.fromkeys(("model_sha256", "checkpoint_sha256"), (str, type(None))),
    **dict.fromkeys(("drop_points", "upper_bound_points", "time_ratio"), (float, int, type(None))),
    "rehearsal": (bool,),
    "looks": (int,),
}


def parse_lines(text: str) -> list[PastVerdict | str]:
    """Return each line's verdict, or what is wrong with the line."""
    return [_parse(line) for line in text.removesuffix("\n").split("\n")] if text else []


def _parse(line: str) -> PastVerdict | str:
    try:
        return PastVerdict.from_json(line)
    except ValueError as error:
        return str(error)
