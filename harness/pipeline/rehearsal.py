"""The rehearsal kit: what a production run needs, where no real weights can be had.

Owns the kit's folders in the hub's form (seeded random weights, and what stands beside them), its
copy of the embedded data set, and its ``gate.toml``. What comes of a run on it is a rehearsal,
since the weights show that nobody trained them.
"""

from __future__ import annotations

import shutil
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.config import RandomWeights
from harness.data.fasta import read_fasta
from harness.embedding.esm.random_weights import (
    ESM2_SETTINGS,
    weight_bytes,
    write_random_checkpoint,
)
from harness.embedding.random_dnabert import dnabert_bytes, write_dnabert
from harness.errors import DataError, MissingInput
from harness.progress import Progress

__all__ = ["SCALES", "Scale", "gate_toml", "write_kit"]


_GATE_TOML = """\
# A rehearsal of the deployment gate: production's settings, and models with random weights. What
# comes of it is marked REHEARSAL and authorises nothing.
seed = 42
device = "{device}"{threads}

[data]
viral = ["data/viral"]
nonviral = ["data/nonviral"]
taxonomy = "data/taxonomy.tsv"
windows = ["data/viral_chunked500.fa.gz", "data/nonviral_chunked500.fa.gz"]
test_fraction = "0.20"  # of few genomes, so that the calibrated bound has room

# For the real thing, name the downloaded hub ids here: facebook/esm2_t36_3B_UR50D ...
[baseline]
name = "{prefix}ESM2 3B"
model = "{baseline}"
dtype = "{dtype}"

# ... and Synthyra/FastESM2_650.
[candidate]
name = "{prefix}FastESM2_650"
model = "{candidate}"
dtype = "{dtype}"

# ... and zhihan1996/DNABERT-S, which is the same for both sides.
[nucleotide]
model = "{nucleotide}"
dtype = "{nucleotide_dtype}"
{training}
# The test set has 904 sequences. Where that is fewer than `sequences`, all of them are timed.
[timing]
runs = 3
sequences = 1000
attempts = {attempts}
"""

# The hub's FastESM2 and DNABERT-S bring code of their own, which a loader that trusts it would run.
CODE = '''\
"""Stands where a model's own code does on the hub. The gate never runs it; this would show."""

from pathlib import Path

Path(__file__).with_name("EXECUTED").touch()
raise RuntimeError("code from a checkpoint's folder was run; the gate must never do that")
'''

# These FastESM2's configuration leaves to defaults in its code.
_LEFT_OUT = (
    "emb_layer_norm_before",
    "is_folding_model",
    "position_embedding_type",
    "token_dropout",
)


def fastesm_settings(esm2: Mapping[str, Any]) -> dict[str, Any]:
    """Return what FastESM2's ``config.json`` says beside the sizes, given what ESM2's does."""
    own = {
        "model_type": "fast_esm",
        "architectures": ["FastEsmForMaskedLM"],
        "auto_map": {
            "AutoConfig": "modeling_fastesm.FastEsmConfig",
            "AutoModel": "modeling_fastesm.FastEsmModel",
            "AutoModelForMaskedLM": "modeling_fastesm.FastEsmForMaskedLM",
        },
    }
    return {name: value for name, value in esm2.items() if name not in _LEFT_OUT} | own


BASELINE, CANDIDATE, NUCLEOTIDE = "esm2_t36_3B_UR50D", "FastESM2_650", "DNABERT-S"
SEQUENCE_FILES = tuple(
    f"{label}_{kind}.fa.gz" for label in ("viral", "nonviral") for kind in ("nucleotide", "protein")
)
WINDOW_FILES = ("viral_chunked500.fa.gz", "nonviral_chunked500.fa.gz")
DATA_FILES = (*SEQUENCE_FILES, *WINDOW_FILES, "taxonomy.tsv")
# Beyond the weights: the sequences, and what a file system takes for itself.
SPARE_BYTES = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large the models of a kit are, and what ``gate.toml`` says of the machine.

    Attributes
    ----------
    baseline, candidate, nucleotide : RandomWeights
        The shapes, and the seeds of the weights.
    settings : mapping of str to str
        device, dtypes, recipe and attempts in ``gate.toml``, and what precedes the models' names.
    """

    baseline: RandomWeights
    candidate: RandomWeights
    nucleotide: RandomWeights
    settings: Mapping[str, str]

    def needed_bytes(self) -> int:
        """Return how much room a kit takes on the disk."""
        proteins = weight_bytes(self.baseline) + weight_bytes(self.candidate)
        return proteins + dnabert_bytes(self.nucleotide) + SPARE_BYTES


SCALES = {
    # The real shapes, and a deployment's settings.
    "full": Scale(
        baseline=RandomWeights(
            layers=36, hidden_size=2560, heads=40, intermediate_size=10240, seed=1
        ),
        candidate=RandomWeights(
            layers=33, hidden_size=1280, heads=20, intermediate_size=5120, seed=2
        ),
        nucleotide=RandomWeights(
            layers=12, hidden_size=768, heads=12, intermediate_size=3072, seed=3
        ),
        settings={
            "device": "cuda",
            "dtype": "bfloat16",
            "nucleotide_dtype": "float16",
            "training": "",
            "attempts": "1",
            "prefix": "",
        },
    ),
    # The tiny profile's shapes and settings, for a laptop.
    "tiny": Scale(
        baseline=RandomWeights(layers=4, hidden_size=160, heads=2, intermediate_size=320, seed=1),
        candidate=RandomWeights(layers=1, hidden_size=160, heads=2, intermediate_size=32, seed=1),
        # as wide as DNABERT-S, by which VirNucPro tells its vectors
        nucleotide=RandomWeights(
            layers=1, hidden_size=768, heads=12, intermediate_size=256, seed=3
        ),
        settings={
            "device": "cpu",
            "dtype": "float32",
            "nucleotide_dtype": "float32",
            "training": "\n[training]\nepochs = 30  # enough for untrained embedders\n",
            "attempts": "3",
            "prefix": "Tiny stand-in for ",
        },
    ),
}


SUITE, SUITE_SETTINGS = "acceptance", "pytest.ini"


def find_suite() -> Path:
    """Return the folder in which ``acceptance/`` and its ``pytest.ini`` lie.

    Raises
    ------
    MissingInput
        If they are neither beside the package, as in a checkout, nor installed with it.
    """
    checkout = Path(__file__).parents[2]
    installed = Path(sysconfig.get_path("data"), "share", "virnucpro-harness")
    for place in (checkout, installed):
        if (place / SUITE).is_dir() and (place / SUITE_SETTINGS).is_file():
            return place
    raise MissingInput(
        f"The acceptance tests are neither in {checkout} nor in {installed}",
        remedy="Install the package again",
    )


def write_kit(
    folder: Path, scale: Scale, *, data: Path, progress: Progress | None = None
) -> tuple[Path, ...]:
    """Write a rehearsal kit; it is there whole or not at all.

    Parameters
    ----------
    folder : Path
        Where to; must not exist, or be empty.
    scale : Scale
        How large the models are.
    data : Path
        The embedded data set.
    progress : Progress, optional
        Shows how far writing is.

    Returns
    -------
    tuple of Path
        What stands in the folder.

    Raises
    ------
    MissingInput
        If the data set is not there, or the disk has too little room.
    DataError
        If the folder holds something already.
    """
    _check_data(data)
    _check_target(folder, scale.needed_bytes())
    progress = progress or Progress()
    with _built_beside(folder) as partial, progress.task("write the kit", 4, "parts") as task:
        for place in ("data", NUCLEOTIDE, CANDIDATE, BASELINE):
            (partial / place).mkdir()
        for name in DATA_FILES:
            shutil.copyfile(data / name, partial / "data" / name)
        (partial / "gate.toml").write_text(gate_toml(scale), encoding="utf-8")
        suite, passed_over = find_suite(), shutil.ignore_patterns("__pycache__")
        shutil.copytree(suite / SUITE, partial / SUITE, ignore=passed_over)
        shutil.copyfile(suite / SUITE_SETTINGS, partial / SUITE_SETTINGS)
        task.advance(1)
        for name in ("bert_layers.py", "configuration_bert.py"):
            (partial / NUCLEOTIDE / name).write_text(CODE, encoding="utf-8")
        files = [data / name for name in SEQUENCE_FILES if "nucleotide" in name]
        sequences = [text for path in files for text in read_fasta(path)["sequence"].to_pylist()]
        write_dnabert(partial / NUCLEOTIDE, scale.nucleotide, sequences)
        task.advance(1)
        (partial / CANDIDATE / "modeling_fastesm.py").write_text(CODE, encoding="utf-8")
        write_random_checkpoint(
            partial / CANDIDATE, **asdict(scale.candidate), settings=fastesm_settings(ESM2_SETTINGS)
        )
        task.advance(1)
        write_random_checkpoint(
            partial / BASELINE,
            **asdict(scale.baseline),
            settings=ESM2_SETTINGS,
            n_shards=2,  # as ESM2 3B is published
        )
        task.advance(1)
    return tuple(sorted(folder.iterdir()))


def gate_toml(scale: Scale) -> str:
    """Return the settings of a kit."""
    threads = "\nthreads = 1" if scale.settings["device"] == "cpu" else ""
    return _GATE_TOML.format(
        **scale.settings,
        threads=threads,
        baseline=BASELINE,
        candidate=CANDIDATE,
        nucleotide=NUCLEOTIDE,
    )


def _check_data(data: Path) -> None:
    if missing := [name for name in DATA_FILES if not (data / name).is_file()]:
        raise MissingInput(
            f"The embedded data set is not whole: {data} lacks {', '.join(missing)}",
            remedy="Name the folder with --data",
        )


def _check_target(folder: Path, needed_bytes: int) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not empty; name a new folder, or remove this one first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(folder.parent).free
    if free_bytes < needed_bytes:
        raise MissingInput(
            f"The kit takes {needed_bytes / 1e9:.1f} GB, and {folder.parent.resolve()} has "
            f"{free_bytes / 1e9:.1f} GB free",
            remedy="Name a folder on a larger disk, or take --scale tiny",
        )


@contextmanager
def _built_beside(folder: Path) -> Iterator[Path]:
    """Yield a folder that gets its name when all is in it, and is removed if that fails."""
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield partial
        partial.chmod(0o755)
        partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial)
        raise
