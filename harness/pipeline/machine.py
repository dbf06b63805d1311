"""The machine: versions against what is needed, the processor, GPUs and programs.

One finding of the doctor, and how any exception becomes one.

Which fast computations a GPU can do: each is tried, on a few numbers.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, MissingInput
from harness.verdict.provenance import describe_machine

if TYPE_CHECKING:
    import torch

__all__ = [
    "Check",
    "Machine",
    "State",
    "check_machine",
    "describe_kernels",
    "found",
    "note",
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


Attempt = Callable[["torch.device"], object]

_WIDTH = 64


def describe_kernels(
    device: torch.device, attempts: Mapping[str, Attempt] | None = None
) -> list[str]:
    """Return one phrase for each kind of computation: its name, or why it does not run.

    Parameters
    ----------
    device : torch device
        A GPU.
    attempts : mapping of str to callable, optional
        What to try, by its name; default: what the embedding engine uses.
    """
    return [_try(name, attempt, device) for name, attempt in (attempts or _ATTEMPTS).items()]


def _try(name: str, attempt: Attempt, device: torch.device) -> str:
    import torch

    try:
        # Triton launches on the current GPU, whatever its tensors' is.
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            attempt(device)
    except Exception as error:  # noqa: BLE001 - the answer is that it does not run
        reason = str(error).partition("\n")[0][:80]
        return f"no {name} ({type(error).__name__}: {reason})"
    return name


def _multiply_bfloat16(device: torch.device) -> object:
    import torch

    ones = torch.ones(_WIDTH, _WIDTH, device=device, dtype=torch.bfloat16)
    return (ones @ ones).sum().item()


def _attend(device: torch.device) -> object:
    import numpy as np
    import torch

    from harness.embedding.esm.encoder import Rotation
    from harness.embedding.esm.engine import Packed

    states = torch.ones(_WIDTH, 3, 1, _WIDTH, device=device, dtype=torch.bfloat16)
    angles = torch.zeros(_WIDTH, _WIDTH // 2, device=device)
    lengths = np.array([_WIDTH // 4, 3 * _WIDTH // 4], dtype=np.int64)
    return Packed(lengths, device).attend(states, Rotation(angles, angles)).sum().item()


_ATTEMPTS: Mapping[str, Attempt] = {
    "bfloat16": _multiply_bfloat16,
    "variable-length attention (Triton)": _attend,
}


DISTRIBUTION = "virnucpro-harness"
SHOWN_PACKAGES = ("torch", "transformers")
CPU_INFO = Path("/proc/cpuinfo")

# Instructions that compute in half precision, as Linux calls them; without them it is emulated.
_HALF_PRECISION = {
    "bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
    "float16": {"avx512_fp16", "amx_fp16", "asimdhp"},
}
_REQUIREMENT = re.compile(r"([\w.-]+)\s*>=\s*([\d.]+)")


class Machine:
    """What the checks ask of the world; tests give other answers.

    Parameters
    ----------
    import_torch : callable
        Returns torch.
    requirements : callable
        Returns what this distribution needs, such as ``torch>=2.11``.
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

    def __init__(
        self,
        *,
        import_torch: Callable[[], Any] = lambda: import_module("torch"),
        requirements: Callable[[], list[str]] = lambda: metadata.requires(DISTRIBUTION) or [],
        python_needed: Callable[[], str] = lambda: str(
            metadata.metadata(DISTRIBUTION)["Requires-Python"]
        ),
        version: Callable[[str], str] = metadata.version,
        which: Callable[[str], str | None] = shutil.which,
        output_of: Callable[[list[str]], str] | None = None,
        cpu_info: Path = CPU_INFO,
    ) -> None:
        self.import_torch = import_torch
        self.requirements = requirements
        self.python_needed = python_needed
        self.version = version
        self.which = which
        self.output_of = output_of or _output_of
        self.cpu_info = cpu_info


def check_machine(machine: Machine | None = None) -> list[Check]:
    """Return findings about versions, the processor, GPUs and programs."""
    here = machine or Machine()
    return [
        note("Python", lambda: _check_python(here)),
        *_check_packages(here),
        note("CPU", lambda: _describe_cpu(here)),
        *_check_gpus(here),
        note("mmseqs", lambda: _check_mmseqs(here)),
        note("chromium", lambda: _check_chromium(here)),
    ]


def _check_python(machine: Machine) -> Check:
    lowest = machine.python_needed().removeprefix(">=")
    version = platform.python_version()
    is_enough = _numbers(version) >= _numbers(lowest)
    return Check(
        name="Python",
        state=State.OK if is_enough else State.MISSING,
        detail=f"{version} (needed: {lowest} or newer)",
        remedy="" if is_enough else f"Make an environment with Python {lowest}",
    )


def _check_packages(machine: Machine) -> Iterator[Check]:
    try:
        needed = dict(_requirement(line) for line in machine.requirements() if ";" not in line)
    except (metadata.PackageNotFoundError, ValueError) as error:
        yield Check(
            name="packages",
            state=State.MISSING,
            detail=f"what is needed is not known: {error}",
            remedy="Run `pip install -e .` in the project's folder",
        )
        return
    n_others = 0
    for name, lowest in needed.items():
        check = found(name, lambda name=name, lowest=lowest: _fits(machine, name, lowest))  # type: ignore[misc] # bound here
        if name in SHOWN_PACKAGES or check.state is not State.OK:
            yield check
        else:
            n_others += 1
    detail = f"{n_others} are as needed"
    yield Check(name="other packages", state=State.OK, detail=detail)


def _fits(machine: Machine, name: str, lowest: str) -> str:
    remedy = f"Run `pip install '{name}>={lowest}'`, or `pip install -e .` in the project's folder"
    try:
        version = machine.version(name)
    except metadata.PackageNotFoundError as error:
        raise MissingInput(f"not installed; {lowest} or newer is needed", remedy=remedy) from error
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
        detail = f"not found out: {type(error).__name__}: {error}"
        return [Check(name="GPU", state=State.NOTE, detail=detail)]
    if n_gpus:
        names = [f"GPU {number}" for number in range(n_gpus)]
        return [
            note(name, lambda name=name, n=n: _describe_gpu(machine, torch, name, n))  # type: ignore[misc] # bound here
            for n, name in enumerate(names)
        ]
    if not is_built_for_gpus:
        detail, remedy = "none: this torch is built without CUDA", "Install torch's CUDA build"
    else:
        detail = f"none that torch (CUDA {torch.version.cuda}) finds"
        remedy = "Check that nvidia-smi lists one, and that CUDA_VISIBLE_DEVICES does not hide it"
    return [Check(name="GPU", state=State.NOTE, detail=detail, remedy=f"To use one: {remedy}")]


def _describe_gpu(machine: Machine, torch: Any, name: str, number: int) -> Check:
    properties = torch.cuda.get_device_properties(number)
    driver = machine.output_of(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    )
    parts = [
        properties.name,
        f"{properties.total_memory / 2**30:.0f} GiB",
        f"compute capability {properties.major}.{properties.minor}",
        f"driver {driver.split()[0] if driver else 'unknown'}",
        *describe_kernels(torch.device("cuda", number)),
    ]
    return Check(name=name, state=State.OK, detail=", ".join(parts))


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


def _check_chromium(machine: Machine) -> Check:
    program = machine.which("chromium") or machine.which("chromium-browser")
    if program is None:
        detail = "not on the PATH; only tests of the HTML report use it"
        return Check(name="chromium", state=State.NOTE, detail=detail)
    return Check(name="chromium", state=State.OK, detail=program)


def _output_of(command: list[str]) -> str:
    """Return what a program prints; "" if it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
