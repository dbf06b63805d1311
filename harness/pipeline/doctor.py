"""A gate's settings: whether everything that they name is there, or how to get it.

What this machine can run, and what a gate still lacks: checks that change nothing.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from harness.config import GateConfig, ModelConfig, load_config
from harness.data.genbank import genbank_files
from harness.data.inputs import require_files, size_megabytes
from harness.data.read import source_files
from harness.data.unpickle import refuse_lfs_pointer
from harness.data.virnucpro import MERGED_ENDING, NUCLEOTIDE_ENDING, PROTEIN_ENDING
from harness.embedding.devices import require_device
from harness.embedding.esm.checkpoint import find_checkpoint, open_checkpoint
from harness.embedding.nucleotide import open_remote_checkpoint
from harness.errors import HarnessError, MissingInput
from harness.pipeline.machine import Check, State, check_machine, found, note
from harness.pipeline.vectors import SIDES, Side

__all__ = [
    "Check",
    "State",
    "check_gate",
    "examine",
]


_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8": 1}


def check_gate(path: Path) -> list[Check]:
    """Return findings about the settings in a ``gate.toml`` and all that they name."""
    if not path.is_file():
        return [
            Check(
                name="settings",
                state=State.MISSING,
                detail=f"there is no {path}",
                remedy="Write one (see README.md), or name it with --gate-config; "
                "acceptance/profiles/tiny.toml needs no weights and no data of yours",
            )
        ]
    try:
        config = load_config(path)
    except HarnessError as error:
        return [Check(name="settings", state=State.MISSING, detail=str(error))]
    return [
        Check(name="settings", state=State.OK, detail=str(path)),
        found("device", partial(_find_device, config)),
        *(found(f"[{side}]", partial(_find_side, config, side)) for side in SIDES),
        found("[nucleotide]", partial(_find_nucleotides, config)),
        *_check_data(config),
        *_check_limits(config),
    ]


def _find_device(config: GateConfig) -> str:
    for side in SIDES:
        require_device(config.device, getattr(config, side).dtype)
    return config.device


def _find_side(config: GateConfig, side: Side) -> str:
    settings: ModelConfig = getattr(config, side)
    parts = [*_describe_model(settings), *_describe_brought(settings)]
    if not parts:
        raise MissingInput(
            f"{settings.name} names nothing that could be judged",
            remedy=f"Set `model` in [{side}] to a checkpoint folder or a hub id",
        )
    return f"{settings.name}: {'; '.join(parts)}"


def _describe_model(settings: ModelConfig) -> list[str]:
    shape = settings.random_weights
    if shape is not None:
        what = f"layers: {shape.layers}, width {shape.hidden_size}, {settings.dtype}"
        return [f"{what}, random weights, so a rehearsal"]
    if settings.model is None:
        return []
    checkpoint = open_checkpoint(find_checkpoint(settings.model, settings.revision))
    gigabytes = checkpoint.n_parameters * _BYTES[settings.dtype] / 1e9
    parts = [
        _describe_place(settings.model, checkpoint.folder),
        f"type {checkpoint.model_type}",
        f"layers: {checkpoint.shape['num_hidden_layers']}",
        f"width {checkpoint.dim}",
        f"{gigabytes:.2g} GB of weights in {settings.dtype}",
        *(["random weights, so a rehearsal"] if checkpoint.is_untrained() else []),
        *(["a stand-in, so a rehearsal"] if checkpoint.stand_in else []),
    ]
    return [", ".join(parts)]


def _describe_place(model: str, folder: Path) -> str:
    return str(folder) if Path(model) == folder else f"{model} in {folder}"


def _describe_brought(settings: ModelConfig) -> list[str]:
    parts = []
    if settings.features is not None:
        parts.append(f"features: {_count(require_files(settings.features, MERGED_ENDING))}")
    if settings.embeddings is not None:
        parts.append(f"embeddings: {_count(require_files(settings.embeddings, PROTEIN_ENDING))}")
    for key in ("predictions", "metrics", "checkpoint"):
        path: Path | None = getattr(settings, key)
        if path is not None:
            parts.append(f"{key}: {_count((path,))}")
    return parts


def _find_nucleotides(config: GateConfig) -> str:
    settings = config.nucleotide
    if all(getattr(config, side).features for side in SIDES):
        return "not used: both sides bring features"
    if settings.kind == "kmer":
        return f"counts of {settings.k}-mers, width {4**settings.k}"
    if settings.embeddings is not None:
        return f"embeddings: {_count(require_files(settings.embeddings, NUCLEOTIDE_ENDING))}"
    checkpoint = open_remote_checkpoint(
        settings.model,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code,
    )
    place = _describe_place(checkpoint.model, checkpoint.folder)
    return f"{place}; its own code is allowed to run"


def _check_data(config: GateConfig) -> list[Check]:
    data = config.data
    classes = {"viral": data.viral, "nonviral": data.nonviral}
    return [
        *(
            found(f"{kind} data", partial(_find_data, path))
            for kind, paths in classes.items()
            for path in paths
        ),
        note("taxonomy", partial(_check_taxonomy, data.taxonomy)),
    ]


def _find_data(path: Path) -> str:
    return f"{path}: {_count(source_files(path))}"


def _check_taxonomy(path: Path | None) -> Check:
    if path is None:
        return Check(
            name="taxonomy",
            state=State.NOTE,
            detail="none, so representative-split cannot compare lineages, which halts a gate",
            remedy="Set `taxonomy` in [data]",
        )
    return found("taxonomy", lambda: f"{path}: {_count(genbank_files(path))}")


def _check_limits(config: GateConfig) -> list[Check]:
    loose = config.looser_than_deployment()
    if not loose:
        return []
    detail = f"looser than a deployment allows: {', '.join(loose)}, so a PASS authorises nothing"
    return [Check(name="limits", state=State.NOTE, detail=detail)]


def _count(files: tuple[Path, ...]) -> str:
    size = sum(size_megabytes(path) for path in files)  # MissingInput names one that is not there
    for path in files:
        refuse_lfs_pointer(path)
    return f"{len(files)} file{'s' if len(files) > 1 else ''}, {size:,.1f} MB"


def examine(gate_config: Path) -> list[Check]:
    """Return what was found out about this machine, then about a gate's settings.

    Nothing is downloaded, and no code of a model runs. What cannot be found out is a check of its
    own, never an exception.
    """
    return [*check_machine(), *check_gate(gate_config)]
