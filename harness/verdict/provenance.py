"""What a run ran on: versions, processor, memory, commit, GPU.

The host's name is never recorded.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["describe_environment", "describe_machine", "output_of"]


# The distributions whose versions can change a result or a time.
PACKAGES = (
    "virnucpro-harness",
    "torch",
    "transformers",
    "safetensors",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "pyarrow",
    "biopython",
    "pytest",
    "pytest-benchmark",
    "pytest-html",
)
CPU_INFO = Path("/proc/cpuinfo")


def describe_environment(root: Path) -> dict[str, Any]:
    """Return what this process runs on, as JSON values; what cannot be found out is None.

    Parameters
    ----------
    root : Path
        The project's folder, for the git commit.

    Notes
    -----
    Torch is asked only if something else has imported it, and CUDA only where torch has it.
    """
    commit = _git(root, "rev-parse", "HEAD")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **_describe_cpu(),
        "memory_bytes": _memory_bytes(),
        "packages": _package_versions(),
        "git_commit": commit,
        "git_is_dirty": bool(_git(root, "status", "--porcelain")) if commit else None,
        **_torch_facts(),
    }


def describe_machine() -> dict[str, Any]:
    """Return the machine as pytest-benchmark keeps it beside timings, without its name."""
    return {
        "machine": platform.machine(),
        "processor": platform.processor(),
        "system": platform.system(),
        "release": platform.release(),
        "python_implementation": platform.python_implementation(),
        "python_version": platform.python_version(),
        "cpu": _describe_cpu(),
    }


def _describe_cpu() -> dict[str, Any]:
    return {
        "cpu_model": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "cpu_available": _cpu_available(),
    }


def _cpu_model() -> str | None:
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or None


def _cpu_available() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


@functools.cache
def _package_versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _git(root: Path, *arguments: str) -> str | None:
    return output_of(["git", "-C", str(root), *arguments])


def output_of(command: list[str]) -> str | None:
    """Return what a program prints; None if it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _torch_facts() -> dict[str, Any]:
    torch = sys.modules.get("torch")
    if torch is None:
        return {"compute_threads": None, "gpus": [], "gpu_driver": None, "cuda": None}
    has_gpu = torch.cuda.is_available()
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "compute_threads": torch.get_num_threads(),
        "gpus": names if has_gpu else [],
        "gpu_driver": _gpu_driver() if has_gpu else None,
        "cuda": torch.version.cuda if has_gpu else None,
    }


def _gpu_driver() -> str | None:
    versions = output_of(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    return versions.splitlines()[0] if versions else None
