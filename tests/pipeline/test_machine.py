"""What the doctor says of machines: those that have everything, and odd ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.pipeline import machine as machine_module
from harness.pipeline.machine import Check, Machine, State, check_machine, describe_kernels

VERSIONS = {"torch": "2.13.0+cu130", "transformers": "5.17.0", "numpy": "2.2"}


def fake_torch(*, n_gpus: int = 0, cuda: str | None = None) -> SimpleNamespace:
    """Return what the doctor asks of torch."""
    gpu = SimpleNamespace(name="NVIDIA H100", total_memory=80 * 2**30, major=9, minor=0)
    return SimpleNamespace(
        get_num_threads=lambda: 7,
        version=SimpleNamespace(cuda=cuda),
        device=torch.device,
        cuda=SimpleNamespace(
            is_available=lambda: n_gpus > 0,
            device_count=lambda: n_gpus,
            get_device_properties=lambda number: gpu,
        ),
    )


def examine(tmp_path: Path, **changes: Any) -> dict[str, Check]:
    """Return the checks of a machine that has all it needs, but for the changes, by name."""
    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text("model name\t: Some CPU\nflags\t\t: sse avx512_bf16 avx2\n")
    settings: dict[str, Any] = {
        "import_torch": fake_torch,
        "requirements": lambda: [
            "torch>=2.11",
            "transformers>=5.0",
            "numpy>=2",
            'x>=1; extra=="y"',
        ],
        "python_needed": lambda: ">=3.11",
        "version": VERSIONS.__getitem__,
        "which": lambda name: f"/usr/bin/{name}",
        "output_of": lambda command: "15-abc" if command[1] == "version" else "580.1\n580.1",
        "cpu_info": cpu_info,
    }
    return {check.name: check for check in check_machine(Machine(**(settings | changes)))}


def test_machine_when_all_is_there_then_nothing_is_missing(tmp_path: Path) -> None:
    """Versions stand against what is needed; the rest is counted."""
    checks = examine(tmp_path)

    assert not [check for check in checks.values() if check.state is State.MISSING]
    assert checks["torch"].detail == "2.13.0+cu130 (needed: 2.11 or newer)"
    assert checks["other packages"].detail == "1 are as needed"
    assert "7 compute threads" in checks["CPU"].detail
    assert "bfloat16 in hardware, float16 emulated" in checks["CPU"].detail
    assert checks["mmseqs"].detail == "15-abc, /usr/bin/mmseqs"


def test_packages_when_one_is_too_old_then_the_command_is_named(tmp_path: Path) -> None:
    """Versions are compared as numbers, not as text."""
    checks = examine(tmp_path, version=(VERSIONS | {"torch": "2.9.1"}).__getitem__)

    assert checks["torch"].state is State.MISSING
    assert checks["torch"].detail == "2.9.1; 2.11 or newer is needed"
    assert "pip install 'torch>=2.11'" in checks["torch"].remedy


def test_packages_when_one_is_not_installed_then_it_is_named(tmp_path: Path) -> None:
    """A package that is not worth a line otherwise gets one."""

    def version(name: str) -> str:
        if name == "numpy":
            raise metadata.PackageNotFoundError(name)
        return VERSIONS[name]

    assert examine(tmp_path, version=version)["numpy"].detail.startswith(
        "not installed; 2 or newer"
    )


def test_packages_when_the_project_is_not_installed_then_the_command_is_named(
    tmp_path: Path,
) -> None:
    """What is needed stands in the installed metadata."""

    def requirements() -> list[str]:
        raise metadata.PackageNotFoundError("virnucpro-harness")

    checks = examine(tmp_path, requirements=requirements)

    assert checks["packages"].state is State.MISSING
    assert "pip install -e ." in checks["packages"].remedy


def test_python_when_too_old_then_missing(tmp_path: Path) -> None:
    """As for any package."""
    assert examine(tmp_path, python_needed=lambda: ">=9.1")["Python"].state is State.MISSING


@pytest.mark.parametrize(
    ("cuda", "message"),
    [(None, "built without CUDA"), ("13.0", r"none that torch (CUDA 13.0) finds")],
)
def test_gpu_when_there_is_none_then_a_note_says_why(
    tmp_path: Path, cuda: str | None, message: str
) -> None:
    """A gate may be meant for the CPU, so this alone keeps nothing from starting."""
    check = examine(tmp_path, import_torch=lambda: fake_torch(cuda=cuda))["GPU"]

    assert (check.state, message in check.detail) == (State.NOTE, True)


def test_gpu_when_there_are_two_then_each_is_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name, memory, capability, driver, and what was tried on it."""
    monkeypatch.setattr(machine_module, "describe_kernels", lambda device: [f"tried on {device}"])

    checks = examine(tmp_path, import_torch=lambda: fake_torch(n_gpus=2, cuda="13.0"))

    assert checks["GPU 1"].detail == (
        "NVIDIA H100, 80 GiB, compute capability 9.0, driver 580.1, tried on cuda:1"
    )


def test_machine_when_torch_does_not_load_then_it_is_reported(tmp_path: Path) -> None:
    """An odd machine is described as far as it goes."""

    def broken() -> Any:
        raise OSError("libcudart.so: cannot open shared object file")

    checks = examine(tmp_path, import_torch=broken)

    for name in ("CPU", "GPU"):
        assert "not found out: OSError: libcudart.so" in checks[name].detail


def test_programs_when_absent_then_notes_say_what_is_lost(tmp_path: Path) -> None:
    """The gate does without them."""
    checks = examine(tmp_path, which=lambda name: None)

    assert [checks[name].state for name in ("mmseqs", "chromium")] == [State.NOTE, State.NOTE]
    assert "identities" in checks["mmseqs"].detail


def test_kernels_when_one_does_not_run_then_the_reason_is_told() -> None:
    """Each is tried; an exception of any type is the answer."""

    def fail(device: torch.device) -> None:
        raise RuntimeError("needs sm_90\nand a long trace")

    described = describe_kernels(
        torch.device("cpu"), {"attention": fail, "bfloat16": lambda device: None}
    )

    assert described == ["no attention (RuntimeError: needs sm_90)", "bfloat16"]


def test_kernels_when_there_are_several_gpus_then_tried_on_the_one_that_is_described(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Triton launches on the current GPU, not on that of its tensors."""
    current: list[torch.device] = []

    @contextmanager
    def make_current(device: torch.device) -> Iterator[None]:
        current.append(device)
        yield
        current.clear()

    monkeypatch.setattr("torch.cuda.device", make_current)
    second, seen = torch.device("cuda", 1), []

    describe_kernels(second, {"bfloat16": lambda device: seen.extend(current)})

    assert seen == [second]
