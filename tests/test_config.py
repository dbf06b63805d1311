"""Reading gate.toml: names, types, ranges, paths, and the round trip."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config import GateConfig, load_config
from harness.errors import ConfigError

MINIMAL: dict[str, Any] = {
    "data": {"viral": ["viral"], "nonviral": ["bacteria"]},
    "baseline": {"name": "ESM2 3B", "model": "facebook/esm2_t36_3B_UR50D"},
    "candidate": {"name": "FastESM2_650", "model": "Synthyra/FastESM2_650"},
}


def test_config_when_only_the_needed_is_given_then_defaults_are_virnucpros() -> None:
    """The defaults are train.py's recipe and the deployment's limits."""
    config = GateConfig.from_dict(MINIMAL)

    assert config.training.learning_rate == Fraction("0.0002")
    assert (config.training.epochs, config.training.batch_size) == (200, 32)
    assert config.thresholds.max_accuracy_drop_points == 5
    assert config.thresholds.max_time_ratio == Fraction(1, 2)
    assert config.looser_than_deployment() == ()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sede": 1}, "unknown key 'sede'; known: baseline, candidate, data, device"),
        ({"timing": {"rounds": 3}}, r"unknown key 'rounds' in \[timing\]; known: attempts, runs"),
        ({"data": {"viral": ["v"]}}, "missing key 'data.nonviral'"),
        ({"data": {"viral": "v", "nonviral": ["n"]}}, "data.viral: expected a list"),
        ({"device": "tpu"}, "device: expected 'cpu', 'cuda' or one GPU.*; got 'tpu'"),
        ({"device": "cuda:x"}, "device: expected 'cpu', 'cuda' or one GPU.*; got 'cuda:x'"),
        ({"seed": -1}, "seed: must not be negative, got -1"),
        (
            {"candidate": {"name": "c", "dtype": "float8"}},
            "dtype of c: expected one of float32, bfloat16, float16; got 'float8'",
        ),
        ({"store_dtype": "float8"}, "store_dtype: expected one of float32, float16, bfloat16"),
        ({"seed": "42"}, "seed: expected int, got '42'"),
        ({"seed": True}, "seed: expected int, got True"),
        ({"training": {"momentum": 0.9}}, 'training.momentum: write the number as text, "0.9"'),
        ({"training": {"momentum": "often"}}, "expected a number as text, got 'often'"),
        ({"training": {"batch_size": 1}}, "training.batch_size: must be at least 2"),
        ({"timing": {"runs": 2}}, "timing.runs: must be at least 3"),
        ({"training": {"seeds": 0}}, "training.seeds: must be positive"),
        ({"thresholds": 5}, r"\[thresholds\] must be a table"),
        ({"candidate": {"name": "c", "model": "a" * 300}}, "candidate.model: no file has a name"),
        (
            {"candidate": {"name": "c", "predictions": "a" * 300}},
            "candidate.predictions: no file has a name so long",
        ),
        ({"nucleotide": {"model": "m", "embeddings": "e"}}, "give a model, embeddings or kind"),
        ({"nucleotide": {"kind": "kmer", "embeddings": "e"}}, "give a model, embeddings or kind"),
        ({"nucleotide": {"kind": "embeddings"}}, "nucleotide.embeddings: name the folder"),
        ({"candidate": {"name": "c", "features": "f", "embeddings": "e"}}, "not both"),
        ({"candidate": {"name": "c", "metrics": "m.json"}}, "candidate.metrics: only a baseline"),
    ],
)
def test_config_when_something_is_wrong_then_the_message_names_it(
    changed: dict[str, Any], message: str
) -> None:
    """Unknown keys list the known ones; unusable values say what was expected."""
    with pytest.raises(ConfigError, match=message):
        GateConfig.from_dict(MINIMAL | changed)


def test_load_config_when_paths_are_relative_then_they_start_at_the_files_folder(
    tmp_path: Path,
) -> None:
    """The working directory does not matter."""
    (tmp_path / "weights").mkdir()
    path = tmp_path / "gate.toml"
    path.write_text(
        '[data]\nviral = ["v"]\nnonviral = ["n"]\n'
        '[baseline]\nname = "b"\nmodel = "weights"\n[candidate]\nname = "c"\nmodel = "org/name"\n'
    )

    config = load_config(path)

    assert config.data.viral == (tmp_path / "v",)
    assert config.baseline.model == str(tmp_path / "weights")
    assert config.candidate.model == "org/name"


def test_config_when_a_path_begins_with_a_tilde_then_it_is_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a shell would read it; a model's folder, too."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "esm").mkdir()
    sides = {side: {"name": side, "model": "~/esm"} for side in ("baseline", "candidate")}
    config = GateConfig.from_dict({"data": {"viral": ["~/v"], "nonviral": ["n"]}, **sides})

    assert config.data.viral == (tmp_path / "v",)
    assert config.baseline.model == str(tmp_path / "esm")


@pytest.mark.parametrize(("attempts", "loose"), [(3, ()), (4, ("timing.attempts",))])
def test_config_when_more_than_three_attempts_are_allowed_then_it_is_looser(
    attempts: int, loose: tuple[str, ...]
) -> None:
    """Who measures often enough is lucky once."""
    config = GateConfig.from_dict(MINIMAL | {"timing": {"attempts": attempts}})

    assert config.looser_than_deployment() == loose


@pytest.mark.parametrize("content", [b"seed = ", b"\xff\xfe", b""])
def test_load_config_when_unusable_then_the_error_names_the_file(
    tmp_path: Path, content: bytes
) -> None:
    """A file that is no TOML, no text or empty is a ConfigError with its path."""
    path = tmp_path / "gate.toml"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"gate\.toml"):
        load_config(path)


@given(
    seed=st.integers(0, 2**31),
    fraction=st.fractions("0.01", "0.99"),
    runs=st.integers(3, 9),
    best=st.booleans(),
)
def test_config_when_written_and_read_then_it_is_the_same(
    seed: int, fraction: Fraction, runs: int, best: bool
) -> None:
    """Exact numbers survive as text."""
    config = GateConfig.from_dict(
        MINIMAL
        | {
            "seed": seed,
            "data": MINIMAL["data"] | {"test_fraction": str(fraction)},
            "timing": {"runs": runs},
            "training": {"save_best": best},
        }
    )

    assert GateConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("others", [("metrics",), ("checkpoint",), ("metrics", "checkpoint")])
def test_config_when_a_side_brings_two_things_then_error(others: tuple[str, ...]) -> None:
    """Which of them counts must not be guessed."""
    side = {"name": "x", "predictions": "a.csv"} | dict.fromkeys(others, "b")

    with pytest.raises(ConfigError, match=r"predictions, metrics or a checkpoint: one of them"):
        GateConfig.from_dict(MINIMAL | {"baseline": side})


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"thresholds": {"max_accuracy_drop_points": "5.01"}}, "max_accuracy_drop_points"),
        ({"thresholds": {"max_class_drop_points": "10.1"}}, "max_class_drop_points"),
        ({"thresholds": {"max_time_ratio": "0.51"}}, "max_time_ratio"),
        ({"training": {"seeds": 2}}, "training.seeds"),
        ({"timing": {"sequences": 999}}, "timing.sequences"),
    ],
)
def test_looser_than_deployment_when_a_limit_is_relaxed_then_it_is_named(
    changed: dict[str, Any], name: str
) -> None:
    """Relaxed limits make a run that authorises nothing."""
    assert GateConfig.from_dict(MINIMAL | changed).looser_than_deployment() == (name,)
