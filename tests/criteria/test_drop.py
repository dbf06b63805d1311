"""The rule that decides accuracy-drop, on findings of any kind."""

from __future__ import annotations

from fractions import Fraction

import pytest

from harness.criteria.drop import DropFinding, SeedDrop
from harness.criteria.result import State
from harness.criteria.units import GenomeEffect, genomes_of


def finding(
    *,
    drop: str = "1",
    upper_points: float = 2.0,
    class_drops: dict[str, str] | None = None,
    others: dict[int, tuple[str, float]] | None = None,
    lacking: tuple[str, ...] = (),
) -> DropFinding:
    """Return a drop of 1 point that passes unless told otherwise."""
    drops = {None: (drop, upper_points)} | dict(others or {})
    return DropFinding(
        limit_points=Fraction(5),
        class_limit_points=Fraction(10),
        baseline_accuracy=Fraction(91, 100),
        candidate_accuracy=Fraction(90, 100),
        class_drops={name: Fraction(text) for name, text in (class_drops or {}).items()},
        seeds=tuple(
            SeedDrop(seed=seed, drop_points=Fraction(text), interval_points=(0.0, upper))
            for seed, (text, upper) in drops.items()
        ),
        effect=GenomeEffect(
            n_rows=400,
            n_genomes=40,
            effective_genomes=20.0,
            design_effect=1.5,
            degrees_of_freedom=30,
        ),
        genomes=genomes_of(["a", "b"], 2),
        lacking=lacking,
    )


@pytest.mark.parametrize(
    ("viral", "state"), [("10", State.PASS), ("10.0001", State.FAIL), ("-40", State.PASS)]
)
def test_state_when_a_class_drops_then_ten_points_are_the_most(viral: str, state: State) -> None:
    """Inclusive and exact, however small the drop of all rows."""
    found = finding(class_drops={"viral": viral, "nonviral": "-3"})

    assert found.state is state
    assert list(found.failed_classes) == (["viral"] if state is State.FAIL else [])


@pytest.mark.parametrize(
    ("others", "state"),
    [
        ({43: ("2", 4.9), 44: ("0", 1.0)}, State.PASS),
        ({43: ("2", 4.9), 44: ("3", 5.0)}, State.INCONCLUSIVE),
        ({43: ("7", 9.0)}, State.INCONCLUSIVE),
    ],
)
def test_state_when_another_seed_is_over_then_the_seed_decides(
    others: dict[int, tuple[str, float]], state: State
) -> None:
    """Only the heads that ship can fail; all must be bounded for a pass."""
    found = finding(others=others)

    assert found.state is state
    assert found.seed_decides is (state is State.INCONCLUSIVE)


def test_state_when_the_shipped_heads_are_over_then_no_other_seed_helps() -> None:
    """The drop that ships is the one that fails."""
    found = finding(drop="5", upper_points=8.0, others={43: ("0", 1.0)})

    assert found.state is State.FAIL
    assert not found.seed_decides


def test_missing_when_several_things_lack_then_all_are_named() -> None:
    """Everything that is missing, not only the first."""
    found = finding(upper_points=5.0, lacking=("4 degrees of freedom (there are 3.9)",))

    assert found.missing == (
        "4 degrees of freedom (there are 3.9)",
        "an upper bound below 5 points (it is 5.00)",
    )
