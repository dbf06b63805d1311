"""Verdicts of small invented runs, as the gate would write them, and the predictions behind one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.artifacts import digest_file
from harness.criteria import REQUIRED_CRITERIA
from harness.report.figures import Figure, draw_figures
from harness.verdict.contents import Verdict, parse_verdict

Content = dict[str, Any]

LINEAGES = ("Caudoviricetes", "Microviridae", "Inoviridae", "Escherichia", "Bacillus", "Plastid")


def typed(content: Content) -> Verdict:
    """Return a verdict as its file would give it."""
    return parse_verdict(json.loads(json.dumps(content)), origin="the test")


def bare(**parts: Any) -> Verdict:
    """Return the verdict of a run that knows nothing but these parts."""
    return typed(halted_verdict() | {"criteria": []} | parts)


def criterion(name: str, state: str = "PASS", **facts: Any) -> dict[str, Any]:
    """Return a criterion's entry with everything that the schema requires."""
    empty = {"value": None, "numerator": None, "denominator": None, "limit": None, "unit": ""}
    texts: dict[str, Any] = {
        "interval": None,
        "detail": f"{name} was judged.",
        "warnings": [],
        "next_steps": [],
    }
    return {"id": name, "state": state, **empty, **texts, "evidence": {}, "test": None} | facts


def _accuracy_criterion() -> dict[str, Any]:
    return criterion(
        "accuracy-drop",
        value="0.6667",
        numerator=2,
        denominator=3,
        limit="5",
        unit="points",
        interval=["-0.52", "2.91"],
        detail="The candidate loses 0.67 points; on genomes like these at most 2.91 points.",
        warnings=["The relative drop is 0.72%"],
        test="acceptance/test_accuracy.py::test_accuracy_drop",
        evidence={
            "n": 450, "b": 9, "c": 6, "both_right": 410, "both_wrong": 25,
            "drop_points": 0.6667, "upper_bound_points": 2.91, "tango_upper_points": 2.2,
            "design_effect": 1.31, "degrees_of_freedom": 21.4, "effective_genomes": 38.2,
            "largest_genome": {"name": "NC_001416.1", "share": 0.061}, "mcnemar_p": 0.61,
            "relative_drop_percent": 0.716, "error_ratio": 1.097, "paired": True,
            "error_rates": {"baseline": 0.0689, "candidate": 0.0756},
        },
    )  # fmt: skip


def _time_criterion() -> dict[str, Any]:
    return criterion(
        "embedding-time",
        value="0.2143",
        numerator=3,
        denominator=14,
        limit="0.5",
        unit="times the baseline's time",
        interval=["0.2011", "0.2275"],
        detail="The candidate needs 21.4% of the baseline's time: 0.45 s against 2.1 s a run.",
    )


def _split_criterion() -> dict[str, Any]:
    checks = [
        {
            "label": label,
            "what": what,
            "statistic": "Cohen's w",
            "value": 0.021 + label / 50,
            "warn_floor": 0.1,
            "fail_floor": 0.2,
            "p": None,
            "alpha": 0.0004,
            "smallest_caught": 0.12,
            "state": "PASS",
            "detail": "",
        }
        for label in (0, 1)
        for what in ("lineage", "source kind", "frame", "length", "GC")
    ]
    checks[-1] |= {"p": 0.06, "state": "WARN", "detail": "mind it"}  # fmt: skip
    lineages = [
        {
            "label": int(place < 3),
            "lineage": name,
            "n_train": 600 + 40 * place,
            "n_test": 70 + 3 * place,
            "ratio": 1.05 - 0.02 * place,
            "p": 0.4,
            "alpha": 3e-5,
            "state": "PASS",
        }
        for place, name in enumerate(LINEAGES)
    ]
    lineage_shares = {
        "1": [{"lineage": name, "train": 0.3, "test": 0.32} for name in LINEAGES[:3]],
        "0": [{"lineage": name, "train": 0.31, "test": 0.3} for name in LINEAGES[3:]],
    }
    shares = {"train": [0.01, 0.04, 0.2, 0.5, 0.25], "test": [0.02, 0.03, 0.2, 0.52, 0.23]}
    bins = {
        "length": {"edges": [90, 110, 130, 150, 160, 170], **shares},
        "gc": {"edges": [0.2, 0.3, 0.4, 0.5, 0.6, 0.7], **shares},
    }  # fmt: skip
    return criterion(
        "representative-split",
        value="0",
        limit="0",
        unit="failing checks",
        detail="None of 10 checks fails.",
        evidence={
            "checks": checks,
            "lineages": lineages,
            "lineage_shares": lineage_shares,
            "histograms": {"1": bins, "0": bins},
        },
    )


def _integrity_criteria() -> list[dict[str, Any]]:
    stores = [
        {"store": f"work/embed/{name}", "rows": 4500, "dim": 64, "finite": True, "constant": 0}
        for name in ("baseline", "candidate")
    ]
    return [
        criterion(
            "split-integrity",
            detail="Nothing is in both parts.",
            evidence={
                "hard": [{"what": "same protein", "count": 0, "examples": []}],
                "soft": [{"what": "genome also in train", "share": 0.98}],
                "identity_note": "Install MMseqs2 to see the identity of test against train.",
            },
        ),
        criterion(
            "baseline-sanity",
            value="93.11",
            limit="55",
            unit="% accuracy",
            detail="The baseline is better than the constant answer.",
            evidence={"accuracy": 0.9311, "lower_bound": 0.905, "larger_class_share": 0.5,
                      "required": 0.55},
        ),
        criterion("embedding-integrity", evidence={"stores": stores}),
    ]  # fmt: skip


def _side(name: str, matrix: list[list[int]], accuracy: float) -> dict[str, Any]:
    metrics = {"accuracy": accuracy, "precision": accuracy - 0.01, "recall": accuracy + 0.01,
               "f1": accuracy, "roc_auc": 0.9731, "average_precision": 0.9702, "mcc": 0.8521,
               "brier": 0.0581}  # fmt: skip
    return {
        "name": name, "model": None, "dtype": "float32", "dim": 64, "parameters": 1_250_000,
        "is_random": True, "model_sha256": "ab" * 32, "metrics": metrics,
        "intervals": {key: [value - 0.02, value + 0.02] for key, value in metrics.items()},
        "confusion_matrix": matrix,
    }  # fmt: skip


def _training_side(floor: float) -> dict[str, Any]:
    history = [
        {"epoch": epoch, "train_loss": floor + 0.6 / epoch, "validation_loss": floor + 0.7 / epoch,
         "validation_accuracy": 0.93 - 0.3 / epoch, "learning_rate": 2e-4 * 0.85 ** (epoch // 10),
         "elapsed_seconds": 0.21, "rows_per_second": 17_000.0}
        for epoch in range(1, 31)
    ]  # fmt: skip
    return {
        "evaluated": "final", "epochs_run": 30, "best_epoch": 30, "stopped_early": False,
        "n_train": 3645, "n_validation": 405, "history": history,
        "recipe": {"learning_rate": "0.0002", "momentum": "0.9", "batch_size": 32},
    }  # fmt: skip


def passing_verdict() -> Content:
    """Return a rehearsal on tiny models that passed everything."""
    seconds = {
        "baseline_seconds": [2.08, 2.11, 2.12],
        "candidate_seconds": [0.45, 0.44, 0.46],
        "closing_baseline_seconds": [2.1],
    }
    groups = [
        {"group": name, "n": 75, "n_genomes": 9, "baseline_accuracy": 0.93,
         "candidate_accuracy": 0.92 - 0.01 * i, "drop_points": i - 1.0,
         "interval": [i - 4.0, i + 2.0]}
        for i, name in enumerate(LINEAGES)
    ]  # fmt: skip
    return {
        "schema_version": 1,
        "verdict": "PASS",
        "rehearsal": True,
        "rehearsal_reasons": ["tiny profile", "random weights"],
        "looser_than_deployment": [],
        "profile": "tiny",
        "started": "2026-01-02T03:04:05+00:00",
        "finished": "2026-01-02T03:04:49+00:00",
        "command": "pytest acceptance/",
        "halted_by": [],
        "criteria": [
            _accuracy_criterion(), _time_criterion(), _split_criterion(), *_integrity_criteria()
        ],
        "baseline": _side("ESM2, 6 layers", [[210, 15], [16, 209]], 0.9311),
        "candidate": _side("FastESM2, 2 layers", [[208, 17], [17, 208]], 0.9244),
        "differences": {
            "accuracy": {"value": -0.0067, "interval": [-0.0291, 0.0052]},
            "recall": {"value": -0.061, "interval": [-0.09, -0.02]},
            "roc_auc": {"value": -0.0007, "interval": [-0.003, 0.002]},
        },
        "breakdowns": {"lineage": groups, "length": groups[:3]},
        "data": {"n_records": 4500, "n_viral": 2250, "n_nonviral": 2250, "n_lineages": 6},
        "split": {"n_train": 3645, "n_validation": 405, "n_test": 450, "seed": 42,
                  "seeds_tried": [42], "sampling_unit": "record", "test_fraction": "0.1"},
        "training": {"baseline": _training_side(0.2), "candidate": _training_side(0.22)},
        "timing": {**seconds, "ratio": 0.2143, "interval": [0.2011, 0.2275],
                   "attempts": [seconds, seconds], "n_sequences": 200, "n_residues": 33_000,
                   "tokenisation_seconds": {"baseline": 0.004, "candidate": 0.004}},
        "stages": [
            {"name": "split", "elapsed_seconds": 0.8, "is_reused": False},
            {"name": "embed baseline", "elapsed_seconds": 12.2, "is_reused": True},
        ],
        "peak_memory_bytes": 1_400_000_000,
        "artifacts": {"checkpoint": {"path": "work/head.safetensors", "sha256": "cd" * 32}},
        "environment": {"python": "3.11.9", "torch": "2.11.0", "device": "cpu"},
    }  # fmt: skip


def failing_verdict() -> Content:
    """Return the same run with a candidate that lost too much."""
    verdict = passing_verdict() | {"verdict": "HALT", "halted_by": ["accuracy-drop: FAIL"]}
    verdict["criteria"][0] |= {
        "state": "FAIL", "value": "7.1111", "interval": ["5.2", "9.4"],
        "detail": "The candidate loses 7.11 points, and the limit is 5.",
        "next_steps": ["Train the candidate's head for longer.", "Look at the worst lineages."],
    }  # fmt: skip
    return verdict


def inconclusive_verdict() -> Content:
    """Return the same run with timing too noisy to settle."""
    verdict = passing_verdict() | {"verdict": "HALT", "halted_by": ["embedding-time: INCONCLUSIVE"]}
    verdict["criteria"][1] |= {
        "state": "INCONCLUSIVE",
        "next_steps": ["Run again on an idle machine."],
    }
    return verdict


def halted_verdict() -> Content:
    """Return a production run that never began: nothing found, nothing measured."""
    remedy = "Write gate.toml: see the README."
    rows = [
        criterion(name, "NOT_RUN", detail="There is no gate.toml.", next_steps=[remedy])
        for name in REQUIRED_CRITERIA
    ]
    return {
        "schema_version": 1, "verdict": "HALT", "rehearsal": False,
        "profile": "production", "started": "2026-01-02T03:04:05+00:00", "criteria": rows,
        "halted_by": [f"{name}: NOT_RUN" for name in REQUIRED_CRITERIA],
    }  # fmt: skip


def deployable_verdict() -> Content:
    """Return a production run that passed within a deployment's limits."""
    verdict = passing_verdict() | {"rehearsal": False, "profile": "production"}
    for side in ("baseline", "candidate"):
        verdict[side]["is_random"] = False
    return verdict


def write_predictions(path: Path, n: int, *, seed: int = 0) -> dict[str, str]:
    """Write scores of two models that mostly agree; return the artifact's entry."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    score = {
        side: 1 / (1 + np.exp(-(2 * label - 1) * 2 - rng.normal(0, 1.4, n)))
        for side in ("baseline", "candidate")
    }
    table = pd.DataFrame(
        {
            "id": [f"NC_{row:06d}.1_chunk_1F1" for row in range(n)],
            "label": label.astype("int8"),
            "baseline_score": score["baseline"],
            "candidate_score": score["candidate"],
            "lineage": np.array(LINEAGES)[rng.integers(0, len(LINEAGES), n)],
            "genome": [f"NC_{row // 10:06d}.1" for row in range(n)],
            "length": rng.integers(90, 170, n),
        }
    )
    table.to_parquet(path)
    return {"path": str(path), "sha256": digest_file(path)}


VERDICTS: dict[str, Callable[[], Content]] = {
    "pass": passing_verdict,
    "fail": failing_verdict,
    "inconclusive": inconclusive_verdict,
    "halt": halted_verdict,
    "deployable": deployable_verdict,
}


@pytest.fixture(params=sorted(VERDICTS))
def verdict(request: pytest.FixtureRequest) -> Content:
    """Each of the small verdicts in turn."""
    return copy.deepcopy(VERDICTS[request.param]())


@pytest.fixture
def passed() -> Content:
    """Give the rehearsal that passed, without its predictions."""
    return passing_verdict()


@pytest.fixture
def halted() -> Content:
    """Give the production run that never began."""
    return halted_verdict()


@pytest.fixture
def deployable() -> Content:
    """Give the production run that passed."""
    return deployable_verdict()


@pytest.fixture(scope="session")
def make_verdict() -> Callable[[], Content]:
    """Give a maker of fresh copies of the rehearsal that passed, for property tests."""
    return passing_verdict


@pytest.fixture
def failed() -> Content:
    """Give the run whose candidate lost too much."""
    return failing_verdict()


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Verdict, list[Figure]]:
    """Give the rehearsal that passed, with 450 predictions, and all its figures."""
    folder = tmp_path_factory.mktemp("drawn")
    verdict = passing_verdict()
    verdict["artifacts"]["predictions"] = write_predictions(folder / "predictions.parquet", 450)
    return typed(verdict), draw_figures(typed(verdict), folder / "figures")


@pytest.fixture(scope="session")
def save_predictions() -> Callable[..., dict[str, str]]:
    """Give the writer of invented predictions."""
    return write_predictions
