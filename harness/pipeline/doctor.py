"""The doctor: what this machine is, and whether all that a gate's settings name is there.

Checks change nothing, download nothing and run no model's code; what a GPU can compute is tried
when a model is loaded. What cannot be found out is a finding of its own, never an exception.
"""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from harness.config import GateConfig, ModelConfig, load_config
from harness.data.genbank import genbank_files
from harness.data.inputs import require_files, size_megabytes
from harness.data.read import source_files
from harness.data.unpickle import refuse_lfs_pointer
from harness.data.virnucpro import MERGED_ENDING, NUCLEOTIDE_ENDING, PROTEIN_ENDINGS
from harness.embedding.devices import require_device
from harness.embedding.dnabert import DnabertEmbedder
from harness.embedding.embedder import describe_model
from harness.errors import HarnessError, MissingInput
from harness.pipeline.vectors import SIDES, Side
from harness.verdict.provenance import describe_machine, output_of

__all__ = [
    "Check",
    "Machine",
    "State",
    "check_gate",
    "check_machine",
    "found_out",
]


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


def found_out(name: str, look: Callable[[], str]) -> Check:
    """Return what ``look`` says; if it raises, the thing is missing."""
    try:
        return Check(name=name, state=State.OK, detail=look())
    except MissingInput as error:
        return Check(name=name, state=State.MISSING, detail=error.what, remedy=error.remedy)
    except HarnessError as error:
        return Check(name=name, state=State.MISSING, detail=str(error))
    except Exception as error:  # noqa: BLE001 - an odd machine is reported, not a crash
        return Check(name=name, state=State.MISSING, detail=_raised(error))


def _note(name: str, look: Callable[[], Check]) -> Check:
    """Return what ``look`` finds of something that the gate can do without, or that it failed."""
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - an odd machine is reported, not a crash
        return _not_found_out(name, error)


def _not_found_out(name: str, error: Exception) -> Check:
    return Check(name=name, state=State.NOTE, detail=f"not found out: {_raised(error)}")


def _raised(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


DISTRIBUTION = "virnucpro-harness"
SHOWN_PACKAGES = ("torch", "transformers")

# Instructions that compute in half precision, as Linux calls them; without them it is emulated.
_HALF_PRECISION = {
    "bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
    "float16": {"avx512_fp16", "amx_fp16", "asimdhp"},
}
_REQUIREMENT = re.compile(r"([\w.-]+)\s*>=\s*([\d.]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the checks ask of the world; tests give other answers.

    Attributes
    ----------
    import_torch : callable
        Returns torch.
    requirements : callable
        Returns what this distribution needs, such as ``torch>=2.11``; None for nothing.
    python_needed : callable
        Returns the versions of Python that will do, such as ``>=3.11``.
    version : callable
        Returns the version of an installed distribution; raises PackageNotFoundError.
    which : callable
        Returns where a program lies, or None.
    output_of : callable
        Returns what a command prints.
    cpu_info : Path
        Linux's description of the processor.
    """

    import_torch: Callable[[], Any] = lambda: import_module("torch")
    requirements: Callable[[], list[str] | None] = lambda: metadata.requires(DISTRIBUTION)
    python_needed: Callable[[], str] = lambda: str(
        metadata.metadata(DISTRIBUTION)["Requires-Python"]
    )
    version: Callable[[str], str] = metadata.version
    which: Callable[[str], str | None] = shutil.which
    output_of: Callable[[list[str]], str | None] = output_of
    cpu_info: Path = Path("/proc/cpuinfo")


def check_machine(machine: Machine | None = None) -> list[Check]:
    """Return findings about versions, the processor, GPUs and programs."""
    here = machine or Machine()
    return [
        *_check_packages(here),
        _note("CPU", partial(_describe_cpu, here)),
        *_check_gpus(here),
        _note("mmseqs", partial(_check_mmseqs, here)),
    ]


def _check_packages(machine: Machine) -> Iterator[Check]:
    """Yield what is needed and not there, with Python and the packages worth a line."""
    try:
        python = machine.python_needed().removeprefix(">=")
        lines = machine.requirements() or []
        needed = dict(_requirement(line) for line in lines if ";" not in line)
    except (metadata.PackageNotFoundError, ValueError) as error:
        yield Check(
            name="packages",
            state=State.MISSING,
            detail=f"what is needed is not known: {error}",
            remedy="Run `pip install -e .` in the project's folder",
        )
        return
    remedy = f"Make an environment with Python {python}"
    yield found_out("Python", partial(_require, platform.python_version(), python, remedy))
    n_others = 0
    for name, lowest in needed.items():
        check = found_out(name, partial(_find_package, machine, name, lowest))
        if name in SHOWN_PACKAGES or check.state is not State.OK:
            yield check
        else:
            n_others += 1
    yield Check(name="other packages", state=State.OK, detail=f"{n_others} are as needed")


def _find_package(machine: Machine, name: str, lowest: str) -> str:
    remedy = f"Run `pip install '{name}>={lowest}'`, or `pip install -e .` in the project's folder"
    try:
        version = machine.version(name)
    except metadata.PackageNotFoundError as error:
        raise MissingInput(f"not installed; {lowest} or newer is needed", remedy=remedy) from error
    return _require(version, lowest, remedy)


def _require(version: str, lowest: str, remedy: str) -> str:
    if _numbers(version) < _numbers(lowest):
        raise MissingInput(f"{version}; {lowest} or newer is needed", remedy=remedy)
    return f"{version} (needed: {lowest} or newer)"


def _requirement(line: str) -> tuple[str, str]:
    parts = _REQUIREMENT.match(line)
    if parts is None:
        raise ValueError(f"expected NAME>=VERSION, got {line!r}")
    return parts[1], parts[2]


def _numbers(version: str) -> tuple[int, ...]:
    """Return the release of a version: 2.13.0+cpu is (2, 13, 0)."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in numbers[0].split(".")) if numbers else ()


def _describe_cpu(machine: Machine) -> Check:
    cpu = describe_machine()["cpu"]
    flags = _cpu_flags(machine.cpu_info)
    halves = [
        f"{dtype} {'in hardware' if names & flags else 'emulated'}"
        for dtype, names in _HALF_PRECISION.items()
    ]
    parts = [
        str(cpu["cpu_model"]),
        f"{cpu['cpu_available']} of {cpu['cpu_count']} cores for this process",
        f"{machine.import_torch().get_num_threads()} compute threads",
        "float32 in hardware",
        *(halves if flags else []),
    ]
    return Check(name="CPU", state=State.OK, detail=", ".join(parts))


def _cpu_flags(path: Path) -> set[str]:
    """Return the instruction sets that Linux lists; none elsewhere."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    named = [line for line in lines if line.lower().startswith(("flags", "features"))]
    return set(named[0].partition(":")[2].split()) if named else set()


def _check_gpus(machine: Machine) -> list[Check]:
    try:
        torch = machine.import_torch()
        n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        is_built_for_gpus = torch.version.cuda is not None
    except Exception as error:  # noqa: BLE001 - an odd machine is reported, not a crash
        return [_not_found_out("GPU", error)]
    if n_gpus:
        return [
            _note(f"GPU {number}", partial(_describe_gpu, machine, torch, number))
            for number in range(n_gpus)
        ]
    if not is_built_for_gpus:
        detail, remedy = "none: this torch is built without CUDA", "Install torch's CUDA build"
    else:
        detail = f"none that torch (CUDA {torch.version.cuda}) finds"
        remedy = "Check that nvidia-smi lists one, and that CUDA_VISIBLE_DEVICES does not hide it"
    return [Check(name="GPU", state=State.NOTE, detail=detail, remedy=f"To use one: {remedy}")]


def _describe_gpu(machine: Machine, torch: Any, number: int) -> Check:
    properties = torch.cuda.get_device_properties(number)
    driver = machine.output_of(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    )
    parts = [
        properties.name,
        f"{properties.total_memory / 2**30:.0f} GiB",
        f"compute capability {properties.major}.{properties.minor}",
        f"driver {driver.split()[0] if driver else 'unknown'}",
    ]
    return Check(name=f"GPU {number}", state=State.OK, detail=", ".join(parts))


def _check_mmseqs(machine: Machine) -> Check:
    program = machine.which("mmseqs")
    if program is None:
        return Check(
            name="mmseqs",
            state=State.NOTE,
            detail="not on the PATH, so identities of test and training proteins are not reported",
            remedy="Install MMseqs2 (`conda install -c bioconda mmseqs2`, or your distribution's)",
        )
    version = machine.output_of([program, "version"])
    return Check(name="mmseqs", state=State.OK, detail=f"{version or 'unknown version'}, {program}")


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
        found_out("device", partial(_find_device, config)),
        *(found_out(f"[{side}]", partial(_find_side, config, side)) for side in SIDES),
        found_out("[nucleotide]", partial(_find_nucleotides, config)),
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
    what = describe_model(
        settings.model, kind=settings.kind, revision=settings.revision, dtype=settings.dtype
    )
    return [what]


def _describe_brought(settings: ModelConfig) -> list[str]:
    parts = []
    if settings.features is not None:
        parts.append(f"features: {_count(require_files(settings.features, MERGED_ENDING))}")
    if settings.embeddings is not None:
        parts.append(f"embeddings: {_count(require_files(settings.embeddings, *PROTEIN_ENDINGS))}")
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
    return DnabertEmbedder.describe(
        settings.model, revision=settings.revision, dtype=settings.dtype
    )


def _check_data(config: GateConfig) -> list[Check]:
    data = config.data
    classes = {"viral": data.viral, "nonviral": data.nonviral}
    return [
        *(
            found_out(f"{kind} data", partial(_find_data, path))
            for kind, paths in classes.items()
            for path in paths
        ),
        _note("taxonomy", partial(_check_taxonomy, data.taxonomy)),
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
    return found_out("taxonomy", lambda: f"{path}: {_count(genbank_files(path))}")


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
