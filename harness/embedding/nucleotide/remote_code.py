"""Models whose code comes with their checkpoint: run only with leave, from a pinned revision.

DNABERT-S is such a model: transformers has no class for it, its checkpoint holds Python files. They
run with the rights of whoever starts the gate, so nothing of them is imported without an explicit
setting, and only code that was downloaded beforehand ever runs.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from harness.embedding.nucleotide.remote_checkpoint import WITHOUT, RemoteCheckpoint
from harness.errors import CheckpointError, MissingInput

__all__ = ["open_remote_checkpoint"]

_COMMIT_HASH = re.compile(r"[0-9a-f]{40}")


def open_remote_checkpoint(
    model: str | None, *, revision: str | None, trust_remote_code: bool
) -> RemoteCheckpoint:
    """Return a checkpoint whose code the settings allow to run; runs none of it yet.

    Parameters
    ----------
    model : str or None
        Hub id, or a checkpoint's folder.
    revision : str or None
        The commit hash of a hub id, 40 hexadecimal digits; not needed for a folder.
    trust_remote_code : bool
        Whether its code may run.

    Raises
    ------
    MissingInput
        If no model is named, the leave is not given, or the files are not there.
    CheckpointError
        If the checkpoint brings no code, or takes it from another repository.
    """
    if model is None:
        raise MissingInput(
            "[nucleotide] names nothing that embeds the nucleotides",
            remedy='Set embeddings = "folder of *_DNABERT_S.pt", a model, or kind = "kmer"; or '
            "give both sides `features`",
        )
    is_folder = Path(model).is_dir()
    _require_leave(model, revision, trust_remote_code=trust_remote_code, is_folder=is_folder)
    folder = Path(model) if is_folder else _cached(model, str(revision))
    _check_code(folder, model)
    return RemoteCheckpoint(model=model, revision=None if is_folder else revision, folder=folder)


def _require_leave(
    model: str, revision: str | None, *, trust_remote_code: bool, is_folder: bool
) -> None:
    pin = "" if is_folder else ' and revision = "<the commit hash, 40 digits>"'
    if not trust_remote_code:
        raise MissingInput(
            f"[nucleotide] model {model!r} brings Python code of its own, which would run here "
            "with all your rights, so it is not run without your leave",
            remedy="Read its .py files, as they are at the revision that you pin; then set "
            f"trust_remote_code = true{pin} in [nucleotide]. {WITHOUT}",
        )
    if not is_folder and not _COMMIT_HASH.fullmatch(revision or ""):
        raise MissingInput(
            f"[nucleotide] revision is {revision!r}: a branch or a tag can be moved to other code "
            f"than what you have read, so {model!r} is not run from it",
            remedy=f"Give the full commit hash (40 hexadecimal digits) as revision. {WITHOUT}",
        )


def _cached(model: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError) as error:
        raise MissingInput(
            f"No folder {model!r} and no cached download of the model of that name at {revision}",
            remedy=f"Run `hf download {model} --revision {revision}`. {WITHOUT}",
        ) from error


def _check_code(folder: Path, model: str) -> None:
    """Refuse code that would come from elsewhere, where the revision does not pin it."""
    maps = [_auto_map(folder / name) for name in ("config.json", "tokenizer_config.json")]
    if not isinstance(maps[0].get("AutoModel"), str):
        raise CheckpointError(
            f"{folder / 'config.json'}: names no code of its own (auto_map.AutoModel), so this is "
            f"not DNABERT-S. {WITHOUT}"
        )
    named = [str(name) for auto_map in maps for name in auto_map.values()]
    others = {name.partition("--")[0] for name in named if "--" in name} - {model}
    if others:
        raise CheckpointError(
            f"{folder}: takes code from another repository ({', '.join(sorted(others))}), which "
            "its revision does not pin. Put those .py files into a copy of the folder, take the "
            f"names before '--' out of auto_map, and name that folder as model. {WITHOUT}"
        )


def _auto_map(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("auto_map") or {}
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a readable JSON object: {error}") from error
    return found if isinstance(found, dict) else {"tokeniser": found}
