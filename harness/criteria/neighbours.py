"""What else uses the device at one moment, and how fast it is clocked.

Another process on the GPU disturbs a measurement; load on the processor is only worth a warning.
Where the driver does not list the GPU's processes, the memory in use tells of others. What follows
from either is decided in ``harness.criteria.speed``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

__all__ = [
    "Observation",
    "observe_cpu",
    "observe_device",
    "observe_gpu",
]


# A whole core's worth of other programs is worth a warning.
NOTABLE_LOAD = 1.0
SHOWN_PROGRAMS = 5
# GPU memory in use that no tensor of this process accounts for. Its own context, with the kernels
# and workspaces of the libraries, takes 0.3 to 0.8 GiB; another process adds a context at least.
LARGEST_CONTEXT_BYTES = 2**30
PROC = Path("/proc")
QUERY = ["nvidia-smi", "-q", "-x"]
QUERY_TIMEOUT_SECONDS = 20

_READINGS = {
    "sm_clock": "clocks/sm_clock",
    "memory_clock": "clocks/mem_clock",
    "temperature": "temperature/gpu_temp",
    "power": "gpu_power_readings/instant_power_draw",
    "performance_state": "performance_state",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was seen of the device at one moment.

    Attributes
    ----------
    disturbances : tuple of str
        Who else used the GPU.
    warnings : tuple of str
        What may have slowed a round, or could not be found out.
    readings : dict of str to JSON value
        Clocks and temperature with their units, as the driver words them; or the load average and
        the programs that were running.
    """

    disturbances: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    readings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _GpuProcess:
    """One computing process and its place: a GPU, and the MIG instances where it has some."""

    gpu: ElementTree.Element
    place: tuple[str, str, str]
    pid: int
    name: str
    memory: str


def observe_device(device: str) -> Observation:
    """Look at a torch device once, while this process holds work on it."""
    torch = sys.modules.get("torch")
    if device.partition(":")[0] == "cuda" and torch is not None:
        uuid = str(getattr(torch.cuda.get_device_properties(device), "uuid", ""))
        free, total = torch.cuda.mem_get_info(device)
        unaccounted = total - free - torch.cuda.memory_reserved(device)
        return observe_gpu(uuid, unaccounted_bytes=unaccounted)
    return observe_cpu(n_threads=torch.get_num_threads() if torch is not None else 1)


def observe_cpu(
    *,
    n_threads: int,
    read_load: Callable[[], tuple[float, float, float]] = os.getloadavg,
    proc: Path = PROC,
) -> Observation:
    """Compare the load of the last minute with the threads that this process computes on.

    Parameters
    ----------
    n_threads : int
        Threads that this process computes on.
    read_load : callable
        Returns the load averages of 1, 5 and 15 minutes.
    proc : Path
        Where the kernel describes the processes; elsewhere than on Linux none is named.
    """
    load = read_load()[0]
    warning = "Other programs kept a core or more busy (the load averages stand in the evidence)"
    return Observation(
        warnings=(warning,) if load - n_threads >= NOTABLE_LOAD else (),
        readings={"load_average": load, "running": list(_running_programs(proc))},
    )


def observe_gpu(
    uuid: str,
    *,
    unaccounted_bytes: int,
    pid: int | None = None,
    query: Callable[[], str] | None = None,
) -> Observation:
    """Name the other computing processes on this process's GPU, or on its MIG instance.

    Parameters
    ----------
    uuid : str
        The GPU, as torch names it: without the driver's prefix ``GPU-``.
    unaccounted_bytes : int
        Its memory in use, less what this process's allocator holds.
    pid : int, optional
        This process; default: the one that calls.
    query : callable, optional
        Returns what ``nvidia-smi -q -x`` prints; raises OSError or SubprocessError.

    Notes
    -----
    In a container the driver may list processes by the host's numbers, this one among them, or
    none. Then a single process on the GPU is taken for this one, and any more disturb. Where none
    is listed, or the driver is not there to ask, the memory in use decides: more than a context's
    worth beside this process's own is another process; less is no proof that there is none of any
    kind, so it is a warning, too.
    """
    try:
        root = ElementTree.fromstring((query or _ask_driver)())  # noqa: S314 - the driver's output
    except (OSError, subprocess.SubprocessError, ElementTree.ParseError) as error:
        return _by_memory(
            unaccounted_bytes, f"nvidia-smi gave no answer: {type(error).__name__}", readings={}
        )
    listed = list(_processes(root))
    own = [p for p in listed if p.pid == (os.getpid() if pid is None else pid)]
    if own:
        places = {p.place for p in own}
        others = [p for p in listed if p.place in places and p not in own]
        return _observed(own[0].gpu, others)
    gpu = next((g for g in root.iter("gpu") if g.findtext("uuid") == f"GPU-{uuid}"), None)
    on_gpu = [p for p in listed if p.place[0] == f"GPU-{uuid}"]
    if on_gpu:  # under the host's numbers
        return _observed(gpu, on_gpu if len(on_gpu) > 1 else [])
    readings = _readings(gpu) if gpu is not None else {}
    return _by_memory(unaccounted_bytes, "nvidia-smi lists no process", readings=readings)


def _observed(gpu: ElementTree.Element | None, others: list[_GpuProcess]) -> Observation:
    return Observation(
        disturbances=tuple(f"process {p.pid} ({p.name}, {p.memory}) on the GPU" for p in others),
        readings=_readings(gpu) if gpu is not None else {},
    )


def _by_memory(unaccounted_bytes: int, reason: str, *, readings: dict[str, Any]) -> Observation:
    """Tell from the memory in use alone whether another process holds the GPU."""
    readings = readings | {"unaccounted_memory_bytes": unaccounted_bytes}
    if unaccounted_bytes > LARGEST_CONTEXT_BYTES:
        gib = unaccounted_bytes / 2**30
        other = f"{gib:.1f} GiB of the GPU's memory are not this process's ({reason})"
        return Observation(disturbances=(other,), readings=readings)
    known = (
        f"{reason}: another process with less than {LARGEST_CONTEXT_BYTES / 2**30:.0f} GiB of the "
        f"GPU's memory would go unnoticed ({max(unaccounted_bytes, 0) / 2**30:.1f} GiB are in use "
        "beside this process's tensors)"
    )
    return Observation(warnings=(known,), readings=readings)


def _processes(root: ElementTree.Element) -> Iterator[_GpuProcess]:
    for gpu in root.iter("gpu"):
        for entry in gpu.iterfind("processes/process_info"):
            if entry.findtext("type") == "G":  # draws a desktop, computes nothing
                continue
            gpu_instance = entry.findtext("gpu_instance_id", "")
            compute_instance = entry.findtext("compute_instance_id", "")
            yield _GpuProcess(
                gpu=gpu,
                place=(gpu.findtext("uuid", ""), gpu_instance, compute_instance),
                pid=int(entry.findtext("pid", "0")),
                name=entry.findtext("process_name", "unknown"),
                memory=entry.findtext("used_memory", "unknown memory"),
            )


def _readings(gpu: ElementTree.Element) -> dict[str, Any]:
    found = {name: gpu.findtext(path) for name, path in _READINGS.items()}
    return {name: text for name, text in found.items() if text not in (None, "N/A")}


def _running_programs(proc: Path) -> Iterator[str]:
    """Yield name and number of other processes that are on a processor, or wait for one."""
    found = 0
    for stat in sorted(proc.glob("[0-9]*/stat")):
        try:
            start, _, rest = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")
        except OSError:  # it has ended
            continue
        pid, _, name = start.partition(" (")
        if rest.split()[:1] == ["R"] and int(pid) != os.getpid() and found < SHOWN_PROGRAMS:
            found += 1
            yield f"{name} ({pid})"


def _ask_driver() -> str:
    done = subprocess.run(
        QUERY, capture_output=True, text=True, timeout=QUERY_TIMEOUT_SECONDS, check=True
    )
    return done.stdout
