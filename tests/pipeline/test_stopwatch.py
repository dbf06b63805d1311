"""The stopwatch: what is timed, in which turns, how often, and that it is what was validated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import chain, repeat
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pytest
import torch

from harness.criteria.neighbours import Observation
from harness.criteria.result import State
from harness.embedding import Facts
from harness.errors import ArtifactError
from harness.pipeline.stopwatch import (
    BATCHING_SEQUENCES,
    ROUND_SECONDS,
    Causes,
    Stopwatch,
    compute_threads,
    measure_causes,
)

PROTEINS = ["ACD", "EF"]


class Clock:
    """Time stands still but for the seconds that the work says it takes."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the seconds so far."""
        return self.now


def vectors_of(sequences: Sequence[str], value: float) -> npt.NDArray[np.float32]:
    """Return a vector for each sequence; another value makes others."""
    lengths = np.array([[len(sequence)] for sequence in sequences])
    return np.asarray(value + lengths * [1, -2], dtype=np.float32)


class Timed:
    """Embeds at once, and takes the seconds it was given, run by run, for each time it embeds."""

    name, dim, digest = "timed", 2, "0"
    facts = Facts(engine="none")

    def __init__(
        self, clock: Clock, seconds: Iterable[float], *, dtype: str = "float32", value: float = 1
    ) -> None:
        self.clock = clock
        self.dtype = dtype
        self.value = value
        self.seconds: Iterator[float] = iter(seconds)
        self.runs = 0
        self.token_budget = 1024
        self.full_in: set[int] = set()  # runs, counted from 0, whose first batch is too large
        self.n_out_of_memory = 0

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return a vector for each sequence, by its length."""
        self.clock.now += next(self.seconds) * len(sequences) / len(PROTEINS)
        if self.runs in self.full_in:
            self.token_budget = min(self.token_budget, token_budget or self.token_budget) // 2
            self.n_out_of_memory += 1
        self.runs += 1
        return vectors_of(sequences, self.value)

    def embed_padded(
        self, sequences: Sequence[str], *, batch_size: int = 16
    ) -> npt.NDArray[np.float32]:
        """Return the same, after as long."""
        return self.embed(sequences)


def measured(
    baseline: Iterable[float],
    candidate: Iterable[float],
    *,
    attempts: int = 1,
    stored: float = 1,
    own_dtype: Iterable[float] = (),
    own_value: float = 1,
    observations: Iterable[Observation] = (),
    full_in: Mapping[str, set[int]] = MappingProxyType({}),
    candidate_engine: str = "none",
    runs: int = 3,
    kept: int = 7,
) -> Stopwatch:
    """Return a stopwatch whose first attempt has been measured as the acceptance tests do.

    With ``own_dtype``, its seconds run by run, the baseline is deployed in float32 and the
    candidate in bfloat16. With ``full_in``, memory does not suffice in those runs of a side.
    """
    clock = Clock()
    seen = chain(observations, repeat(Observation()))
    deployed = Timed(clock, own_dtype, value=own_value) if own_dtype else None
    vectors = vectors_of(PROTEINS, stored)
    sides = {"baseline": Timed(clock, baseline), "candidate": Timed(clock, candidate)}
    sides["candidate"].facts = Facts(engine=candidate_engine)
    for side, numbers in full_in.items():
        sides[side].full_in = numbers
    stopwatch = Stopwatch(
        sides,
        PROTEINS,
        {"baseline": vectors, "candidate": vectors},
        limit_ratio=Fraction(1, 2),
        runs=runs,
        attempts=attempts,
        dtype="bfloat16" if deployed else "float32",
        deployed=deployed,
        observe=lambda: next(seen),
        clock=clock,
    )
    stopwatch.warm_up()
    for side in stopwatch.turns[:kept]:
        started = clock()
        stopwatch.work(side)()
        stopwatch.keep(side, clock() - started)
    return stopwatch


def test_judge_when_the_candidate_takes_half_then_passes_with_all_runs_as_evidence() -> None:
    """Two steady warm-up runs, three rounds each and a closing one."""
    result = measured([2.0] * 6, [1.0] * 5).judge()

    assert result.state is State.PASS
    assert result.evidence["warm_up_seconds"] == {"baseline": [2.0, 2.0], "candidate": [1.0, 1.0]}
    assert (result.evidence["n_sequences"], result.evidence["n_residues"]) == (2, 5)
    assert len(result.evidence["cpu_seconds"]["candidate"]) == 3


def test_judge_when_the_candidate_takes_51_percent_then_fails() -> None:
    """The limit is the limit."""
    assert measured([2.0] * 6, [1.02] * 5).judge().state is State.FAIL


@pytest.mark.parametrize("unsteady", [[1.0, 1.5] * 5, [4.0, 6.0, 4.0, 6.0]])
def test_warm_up_when_it_never_gets_steady_then_it_ends_after_ten_runs_or_15_s(
    unsteady: list[float],
) -> None:
    """Compilation and cold caches are waited for, but not for ever."""
    stopwatch = measured([*unsteady, 4.0, 4.0, 4.0, 4.0], [1.0] * 5)

    assert stopwatch.judge().evidence["warm_up_seconds"]["baseline"] == unsteady


NOISY = [2.0, 1.0, 2.0, 2.0]


def test_judge_when_the_first_attempt_is_noisy_then_two_others_must_agree() -> None:
    """Three baseline runs, three of the candidate and a closing one: again, all kept."""
    result = measured([2.0, 2.0, *NOISY, *[2.0] * 8], [1.0] * 11, attempts=3).judge()

    assert result.state is State.PASS
    assert [len(a["baseline_seconds"]) for a in result.evidence["attempts"]] == [3, 3, 3]
    assert result.evidence["attempts"][0]["baseline_seconds"] == [2.0, 1.0, 2.0]


@pytest.mark.parametrize(("attempts", "made"), [(2, 1), (3, 2), (5, 3)])
def test_judge_when_every_attempt_is_noisy_then_no_more_are_made_than_could_settle_it(
    attempts: int, made: int
) -> None:
    """Attempts are limited, and the last word is that it is not known."""
    result = measured([2.0, 2.0, *NOISY * 5], [1.0] * 17, attempts=attempts).judge()

    assert result.state is State.INCONCLUSIVE
    assert len(result.evidence["attempts"]) == made


def test_keep_when_rounds_are_timed_then_the_sides_take_turns() -> None:
    """What disturbs a while disturbs both."""
    stopwatch = measured([2.0] * 6, [1.0] * 5)

    assert "".join(side[0] for side in stopwatch.turns) == "bcbcbcb"
    with pytest.raises(ArtifactError, match="candidate was timed out of turn"):
        measured([2.0] * 6, [1.0] * 5, kept=2).keep("candidate", 1.0)
    with pytest.raises(ArtifactError, match="out of turn"):
        stopwatch.keep("candidate", 1.0)


def test_judge_when_more_rounds_are_asked_for_than_were_kept_then_it_times_them() -> None:
    """The acceptance tests time three of each side."""
    evidence = measured([2.0] * 8, [1.0] * 7, runs=5).judge().evidence

    assert evidence["baseline_seconds"] == [2.0] * 5
    assert evidence["candidate_seconds"] == [1.0] * 5
    assert evidence["closing_baseline_seconds"] == [2.0]


def test_judge_when_a_run_is_short_then_rounds_repeat_it_for_a_second() -> None:
    """The same number for both sides, by the faster one; each time is compared with the store."""
    result = measured([0.02] * 7, [0.006] * 6).judge()

    repeats = result.evidence["repeats"]
    assert min(result.evidence["candidate_seconds"]) >= ROUND_SECONDS
    assert result.evidence["baseline_seconds"] == pytest.approx([0.02 * repeats] * 3)
    assert result.value is not None
    assert float(result.value) == pytest.approx(0.3)
    assert result.evidence["n_sequences"] == len(PROTEINS)


def test_judge_when_the_clock_stands_still_then_it_is_inconclusive() -> None:
    """No number of repetitions makes a second of nothing."""
    assert measured(repeat(0.0), repeat(0.0)).judge().state is State.INCONCLUSIVE


def test_judge_when_other_embeddings_were_timed_than_validated_then_it_raises() -> None:
    """A fast embedder that computes something else proves nothing."""
    with pytest.raises(ArtifactError, match="not those that its head was judged on"):
        measured([2.0] * 6, [1.0] * 5, stored=0.5).judge()


def test_judge_when_timed_embeddings_are_no_numbers_then_it_raises() -> None:
    """They equal nothing."""
    with pytest.raises(ArtifactError, match="not those that its head was judged on"):
        measured([2.0] * 6, [1.0] * 5, stored=float("nan")).judge()


def test_judge_when_dtypes_differ_then_the_matched_rounds_bind() -> None:
    """The baseline's float32 would make anything look fast; five eighths of its bfloat16 fail."""
    result = measured([2.0] * 6, [1.25] * 5, own_dtype=[8.0] * 12).judge()

    assert (result.state, result.value) == (State.FAIL, Fraction(5, 8))
    causes = result.evidence["speed_up"]
    assert causes["deployed_seconds"] == (8.0, 8.0, 8.0)
    assert causes["as_deployed_ratio"] == 1.25 / 8
    assert causes["precision"] == 4.0
    assert "is 6.4 times as fast as the baseline" in result.next_steps[-1]


def test_judge_when_it_is_no_faster_as_deployed_then_a_pass_carries_a_warning() -> None:
    """A baseline that is deployed in a faster dtype than the candidate's is not halved."""
    result = measured([2.0] * 7, [0.9] * 6, own_dtype=[1.0] * 12).judge()

    assert result.state is State.PASS
    assert "As deployed (baseline float32, candidate bfloat16)" in result.warnings[0]
    assert "is 1.11 times as fast as the baseline" in result.warnings[0]


def test_judge_when_the_deployed_baseline_embeds_something_else_then_it_raises() -> None:
    """Rounds that are only shown are compared with the store, too."""
    with pytest.raises(ArtifactError, match="baseline's timed embeddings"):
        measured([2.0] * 7, [0.9] * 6, own_dtype=[8.0] * 12, own_value=1.5).judge()


@pytest.mark.parametrize("moment", range(8))
def test_judge_when_another_process_was_on_the_gpu_then_inconclusive(moment: int) -> None:
    """Whether it was seen before the rounds or after one; the culprit is named once."""
    seen = [Observation()] * moment + [Observation(disturbances=("process 7",))] * 2
    result = measured([2.0] * 7, [0.2] * 6, observations=seen).judge()

    assert result.state is State.INCONCLUSIVE
    assert result.evidence["disturbances"] == ["process 7"]


def test_judge_when_the_other_process_has_gone_then_the_next_attempt_counts() -> None:
    """A disturbed attempt is void, so that the second is the first that counts."""
    seen = [Observation(disturbances=("process 7",), readings={"sm_clock": "1980 MHz"})]
    result = measured([2.0] * 11, [0.2] * 9, attempts=2, observations=seen).judge()

    assert result.state is State.PASS
    assert [a["disturbances"] for a in result.evidence["attempts"]] == [["process 7"], []]
    assert result.evidence["attempts"][0]["readings"] == [{"sm_clock": "1980 MHz"}]


def test_judge_when_other_programs_load_the_cpu_then_it_is_only_a_warning() -> None:
    """On a processor the rounds themselves tell whether it mattered."""
    seen = [Observation(warnings=("Other programs kept 2 cores busy",))] * 5
    result = measured([2.0] * 7, [0.2] * 6, observations=seen).judge()

    assert (result.state, result.warnings) == (State.PASS, ("Other programs kept 2 cores busy",))


def test_judge_when_memory_did_not_suffice_in_a_warm_up_then_both_batches_shrink() -> None:
    """The candidate is not compared in larger batches than the baseline can have."""
    result = measured([2.0] * 6, [1.0] * 5, full_in={"baseline": {0}}).judge()

    assert result.state is State.PASS
    assert result.evidence["token_budget"] == {"baseline": 512, "candidate": 512}
    assert result.evidence["n_out_of_memory"] == {"baseline": 1, "candidate": 0}


@pytest.mark.parametrize(
    "full_in", [{"baseline": {3}}, {"baseline": {6}}, {"candidate": {3}}, {"candidate": {5}}]
)
def test_judge_when_batches_of_the_timed_rounds_differ_then_inconclusive(
    full_in: dict[str, set[int]],
) -> None:
    """From the first round of the baseline to its closing one."""
    result = measured([2.0] * 7, [0.2] * 6, full_in=full_in).judge()

    assert result.state is State.INCONCLUSIVE
    assert "batches shrank from 1,024 to 512 tokens" in result.detail


def test_judge_when_batches_differed_then_the_next_attempt_has_equal_ones() -> None:
    """The smaller budget of both holds from then on."""
    result = measured([2.0] * 11, [0.2] * 9, attempts=2, full_in={"candidate": {3}}).judge()

    assert result.state is State.PASS
    assert result.evidence["token_budget"] == {"baseline": 512, "candidate": 512}


def test_judge_when_the_sides_have_different_engines_then_a_warning_says_so() -> None:
    """It is judged all the same; the ratio is of the models and of what runs them."""
    result = measured([2.0] * 6, [1.0] * 5, candidate_engine="transformers").judge()

    assert result.state is State.PASS
    assert "in different engines (baseline: none, candidate: transformers)" in result.warnings[0]


def test_judge_when_loading_and_warming_up_are_slow_then_the_rounds_are_not() -> None:
    """Set-up is outside: 100 s of it leave no trace in the ratio."""
    result = measured(
        [100.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0], [50.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    ).judge()

    assert (result.state, result.value) == (State.PASS, Fraction(1, 2))


class Deployed:
    """A baseline that takes 2 s in its own batches and 3 s in padded ones."""

    name, dim, digest = "deployed", 1, "0"
    facts = Facts(engine="none")

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.now = 0.0
        self.embedded: list[int] = []

    def embed(
        self,
        sequences: Sequence[str],
        token_budget: int | None = None,
        on_progress: Callable[[int], None] | None = None,
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


def measured_causes(dtype: str, *, candidate_seconds: float = 0.5) -> tuple[Deployed, Causes]:
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
    values = measured_causes("float32")[1].to_dict()

    assert (values["model"], values["precision"], values["batching"]) == (2.0, 2.0, 1.5)
    assert values["as_deployed_ratio"] == 0.25
    assert values["padded_seconds"] == (3.0, 3.0, 3.0)


def test_measure_causes_when_dtypes_agree_then_only_a_few_sequences_are_embedded_again() -> None:
    """The matched rounds are those of the deployment; batching needs no more than a sample."""
    deployed, causes = measured_causes("bfloat16")

    assert causes.to_dict()["precision"] == 1.0
    assert set(deployed.embedded) == {BATCHING_SEQUENCES}


def test_measure_causes_when_there_is_no_padded_way_then_batching_has_no_factor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is an ability that an embedder need not have."""
    monkeypatch.delattr(Deployed, "embed_padded")

    values = measured_causes("float32")[1].to_dict()

    assert (values["batching"], values["n_batching_sequences"]) == (None, 0)


@pytest.mark.parametrize("seconds", [0.0, float("nan")])
def test_causes_when_a_round_took_no_time_then_there_is_no_factor(seconds: float) -> None:
    """A broken clock yields no speed-up."""
    values = measured_causes("float32", candidate_seconds=seconds)[1].to_dict()

    assert (values["model"], values["as_deployed_ratio"]) == (None, None)
    assert values["precision"] == 2.0


def test_compute_threads_when_left_then_the_old_number_is_back() -> None:
    """As many threads as asked for, and as many as before afterwards."""
    before = torch.get_num_threads()

    with compute_threads(3):
        inside = torch.get_num_threads()

    assert (inside, torch.get_num_threads()) == (3, before)
