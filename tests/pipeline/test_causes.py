"""What makes the candidate faster, told apart by a few rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from harness.pipeline.stopwatch import BATCHING_SEQUENCES, Causes, measure_causes


class Deployed:
    """A baseline that takes 2 s in its own batches and 3 s in padded ones."""

    name, dim, digest = "deployed", 1, "0"

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.now = 0.0
        self.embedded: list[int] = []

    def embed(
        self, sequences: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Let 2 s pass."""
        self.now += 2
        self.embedded.append(len(sequences))
        return np.zeros((len(sequences), 1), dtype=np.float32)

    def embed_padded(
        self, sequences: Sequence[str], *, batch_size: int = 16
    ) -> npt.NDArray[np.float32]:
        """Let 3 s pass."""
        self.now += 3
        return np.zeros((len(sequences), 1), dtype=np.float32)


def measured(dtype: str, *, candidate_seconds: float = 0.5) -> tuple[Deployed, Causes]:
    """Return the causes where the timed rounds ran in bfloat16, the baseline's in 1 s."""
    deployed = Deployed(dtype)
    proteins = ["ACD"] * 100
    causes = measure_causes(
        deployed,
        proteins,
        candidate_dtype="bfloat16",
        matched_seconds=[1.0] * 3,
        candidate_seconds=[candidate_seconds] * 3,
        deployed_work=lambda: deployed.embed(proteins),
        clock=lambda: deployed.now,
    )
    return deployed, causes


def test_measure_causes_when_dtypes_differ_then_model_and_precision_multiply() -> None:
    """2 s in float32, 1 s in bfloat16, 0.5 s for the candidate: 2 by each, 4 as deployed."""
    values = measured("float32")[1].to_dict()

    assert (values["model"], values["precision"], values["batching"]) == (2.0, 2.0, 1.5)
    assert values["as_deployed_ratio"] == 0.25
    assert values["padded_seconds"] == (3.0, 3.0, 3.0)


def test_measure_causes_when_dtypes_agree_then_only_a_few_sequences_are_embedded_again() -> None:
    """The matched rounds are those of the deployment; batching needs no more than a sample."""
    deployed, causes = measured("bfloat16")

    assert causes.to_dict()["precision"] == 1.0
    assert set(deployed.embedded) == {BATCHING_SEQUENCES}


@pytest.mark.parametrize("seconds", [0.0, float("nan")])
def test_causes_when_a_round_took_no_time_then_there_is_no_factor(seconds: float) -> None:
    """A broken clock yields no speed-up."""
    values = measured("float32", candidate_seconds=seconds)[1].to_dict()

    assert (values["model"], values["as_deployed_ratio"]) == (None, None)
    assert values["precision"] == 2.0
