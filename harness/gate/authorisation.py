"""Whether a verdict authorises a file: what a deployment asks before it ships a head."""

from __future__ import annotations

from pathlib import Path

from harness.artifacts import digest_file
from harness.errors import HarnessError, MissingInput
from harness.gate.verdict import read_verdict

__all__ = ["NotAuthorised", "authorise"]


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
        If the verdict cannot be read, or contradicts itself.
    NotAuthorised
        For every other reason; it is said.
    """
    if not checkpoint.is_file():
        raise MissingInput(f"There is no {checkpoint}", remedy="Name the head's file")
    verdict = read_verdict(verdict_path)
    if verdict["verdict"] != "PASS":
        reasons = "; ".join(verdict["halted_by"]) or "the run has not ended"
        raise NotAuthorised(f"{verdict_path}: the verdict is {verdict['verdict']} ({reasons})")
    if verdict["rehearsal"]:
        reasons = "; ".join(verdict.get("rehearsal_reasons", []))
        raise NotAuthorised(f"{verdict_path}: the run was a rehearsal ({reasons})")
    if loose := verdict.get("looser_than_deployment"):
        raise NotAuthorised(f"{verdict_path}: looser than a deployment allows: {', '.join(loose)}")
    expected = verdict.get("artifacts", {}).get("checkpoint", {}).get("sha256")
    if expected is None:
        raise NotAuthorised(f"{verdict_path}: names no checkpoint; it authorises none")
    if (found := digest_file(checkpoint)) != expected:
        raise NotAuthorised(
            f"{checkpoint}: sha256 {found} is not the one that was judged, {expected}. "
            "Deploy the judged file, or run the gate on this one"
        )
