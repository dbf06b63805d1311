"""Who else uses the device, read from what the driver prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.criteria.neighbours import Observation, observe_cpu, observe_device, observe_gpu

OURS = 505
GIB = 2**30


def process(pid: int, *, instance: str = "N/A", kind: str = "C") -> str:
    """Return one process as ``nvidia-smi -q -x`` lists it."""
    return f"""<process_info>
        <gpu_instance_id>{instance}</gpu_instance_id>
        <compute_instance_id>{instance}</compute_instance_id>
        <pid>{pid}</pid><type>{kind}</type>
        <process_name>python3</process_name><used_memory>774 MiB</used_memory>
    </process_info>"""


def gpu(uuid: str, *processes: str) -> str:
    """Return one GPU, as the driver describes it."""
    return f"""<gpu id="00000000:00:06.0"><uuid>GPU-{uuid}</uuid>
        <performance_state>P0</performance_state>
        <temperature><gpu_temp>36 C</gpu_temp></temperature>
        <gpu_power_readings><instant_power_draw>N/A</instant_power_draw></gpu_power_readings>
        <clocks><sm_clock>1980 MHz</sm_clock><mem_clock>3201 MHz</mem_clock></clocks>
        <processes>{"".join(processes)}</processes></gpu>"""


def log(*gpus: str) -> str:
    """Return what the driver prints of these GPUs."""
    return f'<?xml version="1.0" ?><nvidia_smi_log>{"".join(gpus)}</nvidia_smi_log>'


def observed(*gpus: str, uuid: str = "a", unaccounted_bytes: int = GIB // 2) -> Observation:
    """Return what is observed where the driver lists these GPUs."""
    return observe_gpu(
        uuid, pid=OURS, query=lambda: log(*gpus), unaccounted_bytes=unaccounted_bytes
    )


def test_observe_gpu_when_alone_then_nothing_disturbs_and_clocks_are_read() -> None:
    """Clocks and temperature are kept as the driver words them; what it lacks is left out."""
    seen = observed(gpu("a", process(OURS)), gpu("b", process(7)))

    assert (seen.disturbances, seen.warnings) == ((), ())
    assert seen.readings == {
        "sm_clock": "1980 MHz",
        "memory_clock": "3201 MHz",
        "temperature": "36 C",
        "performance_state": "P0",
    }


def test_observe_gpu_when_another_process_computes_there_then_it_is_named() -> None:
    """The culprit is told by number, name and memory; a desktop is none."""
    seen = observed(gpu("a", process(OURS), process(512), process(9, kind="G")))

    assert seen.disturbances == ("process 512 (python3, 774 MiB) on the GPU",)


def test_observe_gpu_when_the_other_has_its_own_mig_instance_then_it_does_not_disturb() -> None:
    """Instances share no compute units; two processes in one instance do."""
    apart = observed(gpu("a", process(OURS, instance="1"), process(7, instance="2")))
    together = observed(gpu("a", process(OURS, instance="1"), process(7, instance="1")))

    assert apart.disturbances == ()
    assert len(together.disturbances) == 1


@pytest.mark.parametrize(
    ("processes", "n_disturbances", "n_warnings"),
    [([], 0, 1), ([7001], 0, 0), ([7001, 7002], 2, 0)],
)
def test_observe_gpu_when_a_container_hides_our_number_then_one_process_is_ours(
    processes: list[int], n_disturbances: int, n_warnings: int
) -> None:
    """None listed is not known; one is taken for us; of several, all are named."""
    seen = observed(gpu("a", *map(process, processes)), gpu("b", process(1)))

    assert (len(seen.disturbances), len(seen.warnings)) == (n_disturbances, n_warnings)


@pytest.mark.parametrize("answer", [FileNotFoundError("nvidia-smi"), "Failed to initialize NVML"])
@pytest.mark.parametrize(("unaccounted", "n_disturbances"), [(GIB, 0), (GIB + 1, 1)])
def test_observe_gpu_when_the_driver_does_not_answer_then_the_memory_decides(
    answer: Exception | str, unaccounted: int, n_disturbances: int
) -> None:
    """More than a context's worth is another process; less is never taken for proof in silence."""

    def query() -> str:
        if isinstance(answer, Exception):
            raise answer
        return answer

    seen = observe_gpu("a", query=query, unaccounted_bytes=unaccounted)

    assert (len(seen.disturbances), len(seen.warnings)) == (n_disturbances, 1 - n_disturbances)
    assert "nvidia-smi gave no answer" in (seen.disturbances + seen.warnings)[0]
    assert seen.readings == {"unaccounted_memory_bytes": unaccounted}


def test_observe_gpu_when_a_container_hides_all_processes_then_the_memory_decides() -> None:
    """The clocks are read all the same."""
    alone = observed(gpu("a"), unaccounted_bytes=GIB // 2)
    shared = observed(gpu("a"), unaccounted_bytes=3 * GIB)

    assert alone.warnings == (
        "nvidia-smi lists no process: another process with less than 1 GiB of the GPU's memory "
        "would go unnoticed (0.5 GiB are in use beside this process's tensors)",
    )
    assert shared.disturbances == (
        "3.0 GiB of the GPU's memory are not this process's (nvidia-smi lists no process)",
    )
    assert shared.readings["sm_clock"] == "1980 MHz"


def test_observe_device_when_on_a_gpu_then_memory_beside_our_own_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Used on the whole GPU, less what our allocator holds."""
    cuda = SimpleNamespace(
        get_device_properties=lambda _: SimpleNamespace(uuid="a"),
        mem_get_info=lambda _: (10 * GIB, 80 * GIB),
        memory_reserved=lambda _: 65 * GIB,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    answer = subprocess.CompletedProcess([], 0, stdout=log(gpu("a")))
    monkeypatch.setattr("subprocess.run", lambda *_, **__: answer)

    assert observe_device("cuda:0").disturbances[0].startswith("5.0 GiB")


@pytest.mark.parametrize(("load", "n_warnings"), [(1.4, 0), (2.0, 1), (9.0, 1)])
def test_observe_cpu_when_other_programs_keep_a_core_busy_then_it_is_only_a_warning(
    load: float, n_warnings: int
) -> None:
    """Our own thread is taken off the load; nothing on a processor disturbs."""
    seen = observe_cpu(n_threads=1, read_load=lambda: (load, 0.0, 0.0))

    assert (seen.disturbances, len(seen.warnings)) == ((), n_warnings)
    assert seen.readings["load_average"] == load


def test_observe_cpu_when_programs_are_running_then_they_are_named(tmp_path: Path) -> None:
    """Those on a processor, whatever their name holds; not those asleep, and not ourselves."""
    states = {7: "(blastp) R", 8: "(a (b) c) R", 9: "(sleeper) S", os.getpid(): "(python) R"}
    for pid, state in states.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} {state} 1 2 3")
    (tmp_path / "10").mkdir()  # has ended in between

    seen = observe_cpu(n_threads=1, read_load=lambda: (3.0, 0.0, 0.0), proc=tmp_path)

    assert seen.readings["running"] == ["blastp (7)", "a (b) c (8)"]


def test_observe_cpu_when_there_is_no_proc_then_nobody_is_named(tmp_path: Path) -> None:
    """Other systems than Linux have none."""
    seen = observe_cpu(n_threads=1, proc=tmp_path / "absent")

    assert seen.readings["running"] == []


def test_observe_device_when_it_is_the_cpu_then_the_load_is_read() -> None:
    """No driver is asked where no GPU is used."""
    assert set(observe_device("cpu").readings) == {"load_average", "running"}
