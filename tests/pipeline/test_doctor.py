"""What the doctor says of machines, odd ones too, and of what a gate's settings name."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.data.virnucpro import write_embeddings, write_merged
from harness.embedding.random_weights import write_random_checkpoint
from harness.pipeline.doctor import Check, Machine, State, check_gate, check_machine

MODEL = 'model = "weights"\n'
KMER = '[nucleotide]\nkind = "kmer"\n'
VECTORS = np.ones((2, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data of both classes, a random checkpoint and VirNucPro's files."""
    place = tmp_path_factory.mktemp("gate")
    for name in ("viral", "bacteria"):
        for kind in ("nucleotide", "protein"):
            (place / f"{name}_{kind}.fa").write_text(">a_chunk_1F1\nACG\n")
    (place / "taxonomy.tsv").write_text("a\tViruses\n")
    (place / "weights").mkdir()
    write_random_checkpoint(
        place / "weights", layers=2, hidden_size=16, heads=2, intermediate_size=32, seed=1
    )
    write_embeddings(place / "files" / "x_ESM.pt", ["a", "b"], VECTORS)
    write_embeddings(place / "files" / "x_DNABERT_S.pt", ["a", "b"], VECTORS)
    write_merged(place / "files" / "viral" / "x_merged.pt", ["a", "b"], VECTORS)
    return place


def examine(
    folder: Path,
    *,
    baseline: str = MODEL,
    candidate: str = MODEL,
    nucleotide: str = KMER,
    head: str = 'device = "cpu"\n',
    data: str = 'taxonomy = "taxonomy.tsv"\n',
) -> dict[str, Check]:
    """Write settings and return the checks of them, by name."""
    path = folder / "gate.toml"
    path.write_text(
        f'{head}[data]\nviral = ["viral"]\nnonviral = ["bacteria"]\n{data}'
        f'[baseline]\nname = "B"\n{baseline}[candidate]\nname = "C"\n{candidate}{nucleotide}'
    )
    return {check.name: check for check in check_gate(path)}


def test_gate_when_all_is_there_then_each_thing_is_described(folder: Path) -> None:
    """Type, width, layers, random weights; files and their size."""
    checks = examine(folder)

    assert {check.state for check in checks.values()} == {State.OK}
    for part in ("type esm", "layers: 2", "width 16", "float32", "random weights"):
        assert part in checks["[baseline]"].detail
    assert checks["[baseline]"].detail.startswith(f"B: {folder / 'weights'}, type")
    assert checks["[nucleotide]"].detail == "counts of 4-mers, width 256"
    assert "viral: 2 files" in checks["viral data"].detail


def test_gate_when_a_model_is_not_downloaded_then_the_command_is_named(folder: Path) -> None:
    """The exact command, with the revision."""
    side = 'model = "org/absent"\nrevision = "abc"\n'

    check = examine(folder, candidate=side)["[candidate]"]

    assert check.state is State.MISSING
    assert "hf download org/absent --revision abc" in check.remedy


def test_gate_when_files_are_git_lfs_pointers_then_the_command_is_named(
    folder: Path, tmp_path: Path
) -> None:
    """Before anything is embedded: weights, and files that are brought."""
    place = Path(shutil.copytree(folder, tmp_path / "gate"))
    for name in ("weights/model.safetensors", "head.pth"):
        (place / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\n")

    checks = examine(place, candidate='checkpoint = "head.pth"\n')

    for side in ("[baseline]", "[candidate]"):
        assert checks[side].state is State.MISSING
        assert "git lfs pull" in checks[side].remedy


def test_gate_when_the_device_is_not_there_then_it_is_missing(folder: Path) -> None:
    """A gate for a GPU does not start on a machine without one."""
    import torch

    expected = State.OK if torch.cuda.is_available() else State.MISSING
    assert examine(folder, head='device = "cuda"\n')["device"].state is expected


def test_gate_when_dnabert_is_not_downloaded_then_the_command_is_named(folder: Path) -> None:
    """It needs neither leave nor a commit."""
    nucleotide = '[nucleotide]\nmodel = "org/absent"\n'

    check = examine(folder, nucleotide=nucleotide)["[nucleotide]"]

    assert check.state is State.MISSING
    assert "hf download org/absent" in check.remedy


def test_gate_when_results_are_brought_then_their_files_are_counted(folder: Path) -> None:
    """Nothing needs a model then; nucleotides may be brought as well."""
    checks = examine(
        folder,
        baseline='features = "files"\n',
        candidate='embeddings = "files"\n',
        nucleotide='[nucleotide]\nembeddings = "files"\n',
    )

    assert checks["[baseline]"].detail.startswith("B: features: 1 file")
    assert checks["[candidate]"].detail.startswith("C: embeddings: 1 file")
    assert checks["[nucleotide]"].detail.startswith("embeddings: 1 file")


def test_gate_when_both_sides_bring_features_then_nucleotides_are_not_asked_for(
    folder: Path,
) -> None:
    """Merged files hold both embeddings."""
    features = 'features = "files"\n'

    checks = examine(folder, baseline=features, candidate=features, nucleotide="")

    assert checks["[nucleotide]"].detail.startswith("not used")


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ("", "names nothing that could be judged"),
        ('predictions = "absent.csv"\n', "absent.csv is not there"),
        ('embeddings = "weights"\n', r"holds no *_ESM.pt or *_fastesm.pt file"),
        ('features = "weights"\n', r"holds no *_merged.pt file"),
    ],
)
def test_gate_when_a_side_lacks_what_it_names_then_it_is_missing(
    folder: Path, side: str, message: str
) -> None:
    """What is missing is named, not just that something is."""
    check = examine(folder, baseline=side)["[baseline]"]

    assert (check.state, message in check.detail) == (State.MISSING, True)


def test_gate_when_data_are_not_there_then_each_file_is_named(folder: Path) -> None:
    """Sequences keep the gate from starting; a missing taxonomy halts it later."""
    text = 'taxonomy = "absent.tsv"\n'
    head = 'device = "cpu"\n'

    checks = examine(folder, data=text, head=head)
    assert "absent.tsv" in checks["taxonomy"].detail
    assert checks["taxonomy"].state is State.MISSING
    assert examine(folder, data="")["taxonomy"].state is State.NOTE


def test_gate_when_limits_are_loose_then_a_note_says_so(folder: Path) -> None:
    """Such a run can pass and authorises nothing."""
    checks = examine(folder, nucleotide=f'{KMER}[thresholds]\nmax_time_ratio = "0.9"\n')

    assert "max_time_ratio" in checks["limits"].detail


@pytest.mark.parametrize("text", [None, "nonsense = ", "unknown = 1"])
def test_gate_when_the_settings_cannot_be_used_then_that_is_the_finding(
    tmp_path: Path, text: str | None
) -> None:
    """No file, no TOML, no known key."""
    path = tmp_path / "gate.toml"
    if text is not None:
        path.write_text(text)

    (check,) = check_gate(path)

    assert (check.name, check.state) == ("settings", State.MISSING)
    assert "gate.toml" in check.detail


VERSIONS = {"torch": "2.13.0+cu130", "transformers": "5.17.0", "numpy": "2.2"}


def fake_torch(*, n_gpus: int = 0, cuda: str | None = None) -> SimpleNamespace:
    """Return what the doctor asks of torch."""
    gpu = SimpleNamespace(name="NVIDIA H100", total_memory=80 * 2**30, major=9, minor=0)
    return SimpleNamespace(
        get_num_threads=lambda: 7,
        version=SimpleNamespace(cuda=cuda),
        cuda=SimpleNamespace(
            is_available=lambda: n_gpus > 0,
            device_count=lambda: n_gpus,
            get_device_properties=lambda number: gpu,
        ),
    )


def examine_machine(tmp_path: Path, **changes: Any) -> dict[str, Check]:
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
    checks = examine_machine(tmp_path)

    assert not [check for check in checks.values() if check.state is State.MISSING]
    assert checks["torch"].detail == "2.13.0+cu130 (needed: 2.11 or newer)"
    assert checks["other packages"].detail == "1 are as needed"
    assert "7 compute threads" in checks["CPU"].detail
    assert "bfloat16 in hardware, float16 emulated" in checks["CPU"].detail
    assert checks["mmseqs"].detail == "15-abc, /usr/bin/mmseqs"


def test_packages_when_one_is_too_old_then_the_command_is_named(tmp_path: Path) -> None:
    """Versions are compared as numbers, not as text."""
    checks = examine_machine(tmp_path, version=(VERSIONS | {"torch": "2.9.1"}).__getitem__)

    assert checks["torch"].state is State.MISSING
    assert checks["torch"].detail == "2.9.1; 2.11 or newer is needed"
    assert "pip install 'torch>=2.11'" in checks["torch"].remedy


def test_packages_when_one_is_not_installed_then_it_is_named(tmp_path: Path) -> None:
    """A package that is not worth a line otherwise gets one."""

    def version(name: str) -> str:
        if name == "numpy":
            raise metadata.PackageNotFoundError(name)
        return VERSIONS[name]

    assert examine_machine(tmp_path, version=version)["numpy"].detail.startswith(
        "not installed; 2 or newer"
    )


def test_packages_when_the_project_is_not_installed_then_the_command_is_named(
    tmp_path: Path,
) -> None:
    """What is needed stands in the installed metadata."""

    def requirements() -> list[str]:
        raise metadata.PackageNotFoundError("virnucpro-harness")

    checks = examine_machine(tmp_path, requirements=requirements)

    assert checks["packages"].state is State.MISSING
    assert "pip install -e ." in checks["packages"].remedy


def test_python_when_too_old_then_missing(tmp_path: Path) -> None:
    """As for any package."""
    assert examine_machine(tmp_path, python_needed=lambda: ">=9.1")["Python"].state is State.MISSING


@pytest.mark.parametrize(
    ("cuda", "message"),
    [(None, "built without CUDA"), ("13.0", r"none that torch (CUDA 13.0) finds")],
)
def test_gpu_when_there_is_none_then_a_note_says_why(
    tmp_path: Path, cuda: str | None, message: str
) -> None:
    """A gate may be meant for the CPU, so this alone keeps nothing from starting."""
    check = examine_machine(tmp_path, import_torch=lambda: fake_torch(cuda=cuda))["GPU"]

    assert (check.state, message in check.detail) == (State.NOTE, True)


def test_gpu_when_there_are_two_then_each_is_described(tmp_path: Path) -> None:
    """Name, memory, capability and driver."""
    checks = examine_machine(tmp_path, import_torch=lambda: fake_torch(n_gpus=2, cuda="13.0"))

    assert checks["GPU 1"].detail == "NVIDIA H100, 80 GiB, compute capability 9.0, driver 580.1"


def test_machine_when_torch_does_not_load_then_it_is_reported(tmp_path: Path) -> None:
    """An odd machine is described as far as it goes."""

    def broken() -> Any:
        raise OSError("libcudart.so: cannot open shared object file")

    checks = examine_machine(tmp_path, import_torch=broken)

    for name in ("CPU", "GPU"):
        assert "not found out: OSError: libcudart.so" in checks[name].detail


def test_mmseqs_when_absent_then_a_note_says_what_is_lost(tmp_path: Path) -> None:
    """The gate does without it."""
    check = examine_machine(tmp_path, which=lambda name: None)["mmseqs"]

    assert (check.state, "identities" in check.detail) == (State.NOTE, True)
