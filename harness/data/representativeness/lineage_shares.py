"""Each lineage's share of test and train, counted in sampling units."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.data.representativeness.comparison import Check, LineageRow, Outcome, SampledClass
from harness.data.representativeness.distribution_tests import share_p, smallest_share_ratio
from harness.data.representativeness.redraws import ClassDraw
from harness.data.representativeness.traits import Categories

__all__ = ["LINEAGE_SHARE", "compare_lineages", "judge_lineages"]

IntArray = npt.NDArray[np.int64]

LINEAGE_SHARE = "lineage share"

# A lineage may hold this many times its share of the training part in the test set, or the
# reverse; a lineage of 5% doubled is far outside. A rule such as 'every lineage of 30 rows has a
# test row' would refuse most honest splits.
_RATIO_LIMIT = 1.5


def compare_lineages(
    label: SampledClass, lineage: Categories, draw: ClassDraw, *, alpha: float, is_enough: bool
) -> list[LineageRow]:
    """Compare the shares of every lineage of one class.

    Parameters
    ----------
    label : int or "both"
        The class.
    lineage : Categories
        Of its rows. A unit belongs to the lineage of its first row.
    draw : ClassDraw
        Which rows were drawn, in which units; with test and train rows.
    alpha : float
        The level of the whole class; each lineage has its part of it (Bonferroni).
    is_enough : bool
        Whether the class is large enough to be judged; its rows are INCONCLUSIVE otherwise.

    Returns
    -------
    list of LineageRow
        By p, the least likely first.
    """
    first = np.unique(draw.units, return_index=True)[1]
    n_lineages = len(lineage.names)
    total = np.bincount(lineage.codes[first], minlength=n_lineages)
    test = np.bincount(lineage.codes[first][draw.is_test[first]], minlength=n_lineages)
    n_test, n_all = int(test.sum()), int(total.sum())
    p = share_p(test, total)
    level = alpha / n_lineages
    fails = _is_outside(test, total) & (p <= level)
    caught = smallest_share_ratio(level, test, total, above=_RATIO_LIMIT)
    outcome = {True: Outcome.FAIL, False: Outcome.PASS} if is_enough else {}
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (test / n_test) / ((total - test) / (n_all - n_test))
    return [
        LineageRow(
            label=label,
            lineage=lineage.names[i],
            n_train=int(total[i] - test[i]),
            n_test=int(test[i]),
            expected_test=float(total[i] * n_test / n_all),
            ratio=float(ratio[i]),
            p=float(p[i]),
            alpha=level,
            smallest_caught=None if np.isnan(caught[i]) else float(caught[i]),
            state=outcome.get(bool(fails[i]), Outcome.INCONCLUSIVE),
        )
        for i in np.argsort(p, kind="stable")
    ]


def judge_lineages(rows: list[LineageRow]) -> Check:
    """Sum up the lineages of one class in one check: it fails if one of them does.

    Parameters
    ----------
    rows : list of LineageRow
        At least one, the least likely first.
    """
    worst = next((row for row in rows if row.state is Outcome.FAIL), rows[0])
    return Check(
        label=worst.label,
        what=LINEAGE_SHARE,
        statistic="test share over train share",
        state=worst.state,
        value=worst.ratio,
        fail_floor=_RATIO_LIMIT,
        p=worst.p,
        alpha=worst.alpha,
        smallest_caught=min(
            (row.smallest_caught for row in rows if row.smallest_caught is not None), default=None
        ),
        detail=f"{worst.lineage or 'unknown lineage'}: {worst.n_test} in the test set, "
        f"{worst.expected_test:.1f} expected",
    )


def _is_outside(test: IntArray, total: IntArray) -> npt.NDArray[np.bool_]:
    """Whether test share over train share lies outside 1/1.5 to 1.5, in whole numbers."""
    train = total - test
    in_test, in_train = test * int(train.sum()), train * int(test.sum())
    outside: npt.NDArray[np.bool_] = (2 * in_test > 3 * in_train) | (2 * in_train > 3 * in_test)
    return outside
