"""What is said about a drop, beyond what the criterion's own tests read.

What a training history says about a loss of accuracy.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.criteria.advice import LearningCurve, learning_steps, lineage_steps, read_curve


def lineage(name: str, n: int, drop_points: float) -> dict[str, object]:
    """Return what a breakdown says of one lineage."""
    return {"group": name, "n": n, "drop_points": drop_points}


def test_lineages_when_some_lost_then_those_with_most_rows_come_first() -> None:
    """Rows count, not shares: 2% of 1,000 are more than 50% of 20."""
    lineages = [
        lineage("small", 20, 50.0), lineage("large", 1000, 2.0), lineage("better", 500, -9.0),
        lineage("a", 50, 10.0), lineage("b", 50, 8.0),
    ]  # fmt: skip

    assert lineage_steps(lineages) == (
        "Lineages that lost most, net: large (20 of 1000 rows, 2.0 points), "
        "small (10 of 20 rows, 50.0 points), a (5 of 50 rows, 10.0 points).",
    )


def test_lineages_when_none_lost_or_none_is_known_then_nothing_is_said() -> None:
    """An empty list helps nobody."""
    assert lineage_steps([lineage("better", 500, -9.0), lineage("same", 10, 0.0)]) == ()
    assert lineage_steps([]) == ()


def curve(
    train: list[float], validation: list[float], *, limit: int = 200, evaluates_best: bool = False
) -> LearningCurve:
    """Return the curve of some losses; its best epoch is that of the lowest validation loss."""
    return LearningCurve(
        train_losses=tuple(train),
        validation_losses=tuple(validation),
        best_epoch=1 + validation.index(min(validation)),
        epoch_limit=limit,
        evaluates_best=evaluates_best,
    )


def test_learning_when_it_ended_at_its_limit_and_was_still_falling_then_underfitting() -> None:
    """More epochs are the remedy."""
    (step,) = learning_steps(curve([0.5, 0.4, 0.35], [0.5, 0.4, 0.3], limit=3))

    assert step.startswith("Underfitting")
    assert "limit of 3 epochs" in step
    assert "epochs, or the learning rate" in step


def test_learning_when_it_is_the_baselines_head_then_its_name_is_told() -> None:
    """A baseline near chance is looked at in the same way."""
    histories = ([0.5], [0.5], 1), ([0.5, 0.1], [0.5, 0.6], 9), ([0.5], [0.5], 9)

    steps = [
        learning_steps(curve(train, validation, limit=limit), name="baseline")[0]
        for train, validation, limit in histories
    ]

    assert all("the baseline's" in step.lower() for step in steps)
    assert "candidate" not in " ".join(steps)


def test_learning_when_it_was_stopped_by_patience_then_it_was_not_cut_short() -> None:
    """The limit was not reached, or the last epoch was not the best one."""
    stopped = learning_steps(curve([0.5, 0.4], [0.5, 0.4], limit=3))
    turned = learning_steps(curve([0.5, 0.4, 0.4], [0.5, 0.40, 0.401], limit=3))

    assert not any(step.startswith("Underfitting") for step in (*stopped, *turned))


@pytest.mark.parametrize(
    ("evaluates_best", "remedy"), [(False, "save_best = true"), (True, "more varied training")]
)
def test_learning_when_the_validation_loss_rose_again_then_overfitting(
    *, evaluates_best: bool, remedy: str
) -> None:
    """The numbers are named; what helps hangs on which head was judged."""
    history = curve([0.5, 0.3, 0.1], [0.5, 0.4, 0.6], evaluates_best=evaluates_best)

    (step,) = learning_steps(history)

    assert step.startswith("Overfitting")
    assert "rose by 50% after epoch 2 of 3 (from 0.4 to 0.6)" in step
    assert remedy in step


def test_learning_when_validation_lies_above_training_then_overfitting() -> None:
    """Dropout makes training look worse, so this is no artefact of it."""
    (step,) = learning_steps(curve([0.5, 0.2], [0.5, 0.4]))

    assert "0.4 against 0.2 in training" in step


def test_learning_when_the_baseline_fits_the_same_training_rows_better_then_that_is_said() -> None:
    """The candidate's embeddings carry less, or it was not trained enough."""
    candidate, baseline = curve([0.6, 0.5], [0.6, 0.5]), curve([0.3, 0.2], [0.3, 0.2])

    (step,) = learning_steps(candidate, baseline)

    assert "training 0.5 against 0.2, validation 0.5 against 0.2" in step
    assert "embeddings tell the classes apart less well" in step


def test_learning_when_only_the_validation_rows_are_fitted_less_well_then_that_is_said() -> None:
    """The same training loss, another validation loss."""
    candidate, baseline = curve([0.4], [0.42]), curve([0.4], [0.3])

    (step,) = learning_steps(candidate, baseline)

    assert "does not carry over" in step


def test_learning_when_nothing_shows_then_that_is_said_with_the_numbers() -> None:
    """No diagnosis is made up."""
    (step,) = learning_steps(curve([0.5, 0.4], [0.5, 0.4]), curve([0.5, 0.4], [0.5, 0.4]))

    assert "neither under- nor overfitting: 2 of at most 200 epochs" in step


def test_learning_when_the_head_was_not_trained_here_then_nothing_is_said() -> None:
    """There is no history to read."""
    assert learning_steps(None, curve([0.1], [0.1])) == ()


LOSSES = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=6)


@given(LOSSES, LOSSES)
def test_learning_when_losses_are_any_then_there_is_always_a_sentence(
    candidate: list[tuple[float, float]], baseline: list[tuple[float, float]]
) -> None:
    """A loss of zero divides nothing."""
    curves = [curve(*map(list, zip(*losses, strict=True))) for losses in (candidate, baseline)]

    assert all(learning_steps(*curves))
    assert learning_steps(*curves)


def test_read_curve_then_holds_what_is_reported_of_the_training() -> None:
    """The verdict's own form."""
    epochs: list[dict[str, Any]] = [
        {"train_loss": 0.5, "validation_loss": 0.4},
        {"train_loss": 0.3, "validation_loss": 0.6},
    ]
    training = {
        "history": epochs, "best_epoch": 1, "evaluated": "best", "recipe": {"epochs": 9},
    }  # fmt: skip

    expected = curve([0.5, 0.3], [0.4, 0.6], limit=9, evaluates_best=True)
    assert read_curve(training) == expected
