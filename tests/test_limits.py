"""Limits stand in the config alone: what is said, drawn and verified follows from there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from harness.config import DEPLOYMENT_DROP_POINTS, DEPLOYMENT_TIME_RATIO, Thresholds
from harness.criteria import accuracy, baseline
from harness.criteria.criterion import Run
from harness.criteria.result import CriterionResult, State
from harness.criteria.speed import judge_time
from harness.report.pages import render_markdown
from harness.verdict.contents import parse_verdict
from tests.report.conftest import passing_verdict

ROOT = Path(__file__).parents[1]
SUFFIXES = {".py", ".jinja", ".json", ".css", ".toml", ".md"}
WORDS = {Fraction(5): "five", Fraction(1, 2): "half"}

_DROP = rf"(?:{DEPLOYMENT_DROP_POINTS}(?:\.0+)?|{WORDS[DEPLOYMENT_DROP_POINTS]})"
_SHARE = rf"{100 * DEPLOYMENT_TIME_RATIO} ?(?:%|percent)|{float(DEPLOYMENT_TIME_RATIO)}0?"
# In sentences and names; a digit, a point or a letter before would make it another number or word.
SAID = re.compile(
    rf"(?<![\d.a-z/]){_DROP}[-_ ](?:percentage[-_ ])?points?(?![a-z])"
    rf"|(?<![\d.])(?:{_SHARE}) of (?:the|its) (?:baseline|time)"
    rf"|{WORDS[DEPLOYMENT_TIME_RATIO]}[-_ ](?:of[-_ ])?(?:the[-_ ])?(?:baseline|time)",
    re.IGNORECASE,
)
# What is bound to such a name, or compared with it, is a limit.
LIMIT_NAME = re.compile(r"limit|margin|drop(?!out)|ratio|allowed|call(ed)?_?out", re.IGNORECASE)
NUMBERS = {DEPLOYMENT_DROP_POINTS, DEPLOYMENT_DROP_POINTS / 100, DEPLOYMENT_TIME_RATIO}


def find_said(text: str) -> list[str]:
    """Return where a text says the number of a limit."""
    return [match.group() for match in SAID.finditer(text)]


def find_bound(source: str) -> Iterator[str]:
    """Yield where code gives the number of a limit to a name that speaks of one."""
    for node in ast.walk(ast.parse(source)):
        for name, value in _bindings(node):
            if LIMIT_NAME.search(name) and _number(value) in NUMBERS:
                yield f"{name} = {ast.unparse(value)}"


def _bindings(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that a node gives a value to, or compares with one."""
    if isinstance(node, ast.arguments):
        names = [*node.posonlyargs, *node.args, *node.kwonlyargs][::-1]
        defaults = [*node.defaults, *node.kw_defaults][::-1]
        pairs = zip(names, defaults, strict=False)
        yield from ((arg.arg, default) for arg, default in pairs if default is not None)
    elif isinstance(node, ast.Dict):
        entries = zip(node.keys, node.values, strict=True)
        yield from ((ast.unparse(key), value) for key, value in entries if key is not None)
    elif isinstance(node, ast.Assign):
        yield from ((ast.unparse(target), node.value) for target in node.targets)
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        yield ast.unparse(node.target), node.value
    elif isinstance(node, ast.keyword) and node.arg is not None:
        yield node.arg, node.value
    elif isinstance(node, ast.Compare):
        yield ast.unparse(node.left), node.comparators[0]


def _number(node: ast.expr) -> Fraction | None:
    """Return the number that a literal, or a Fraction of literals, is; None for anything else."""
    is_fraction = isinstance(node, ast.Call) and ast.unparse(node.func) == "Fraction"
    literals = node.args if is_fraction and isinstance(node, ast.Call) else [node]
    try:
        values = [ast.literal_eval(literal) for literal in literals]
        return Fraction(*values).limit_denominator(10_000)
    except (ValueError, TypeError, ZeroDivisionError):
        return None


def test_source_when_searched_then_no_limit_stands_outside_the_config() -> None:
    """Neither in code, nor in a sentence, a test's name, a template or a comment."""
    files = [
        path
        for folder in ("harness", "acceptance")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in SUFFIXES and path != ROOT / "harness" / "config.py"
    ]
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    found = {str(path.relative_to(ROOT)): find_said(text) for path, text in texts.items()}
    for path, text in texts.items():
        if path.suffix == ".py":
            found[str(path.relative_to(ROOT))] += find_bound(text)

    assert len(files) > 100
    assert {name: places for name, places in found.items() if places} == {}


@pytest.mark.parametrize(
    "text",
    [
        "def test_the_candidate_loses_less_than_five_points_of_accuracy",
        "At a true drop of 5 points, looking",
        "a 5-point drop",
        "at most 50% of the baseline's time",
        "0.50 of the baseline's time",
        "embeds in at most half the time",
    ],
)
def test_search_when_a_limit_is_said_then_it_is_found(text: str) -> None:
    """The search itself can fail."""
    assert find_said(text)


@pytest.mark.parametrize(
    "text",
    ["95% confidence", "5% of their 21-mers", "2.5 points", "15 points", "fell by 7 points", "0.5"],
)
def test_search_when_another_number_is_said_then_it_is_left_alone(text: str) -> None:
    """A level of confidence, a spread, an example: none of them is a limit."""
    assert not find_said(text)


@pytest.mark.parametrize(
    ("source", "is_limit"),
    [
        ('LIMIT_POINTS = "5"', True),
        ('def judge(x, *, limit_ratio: str = "0.50"): ...', True),
        ("def settle(x, limit_drop: float = 0.05): ...", True),
        ("judge(margin_points=Fraction(5))", True),
        ("if drop_points > 5: ...", True),
        ('LIMITS = {"accuracy-drop": 5}', True),
        ("ratio: Fraction = Fraction(1, 2)", True),
        ("def fit(*, dropout: float = 0.5, threshold: float = 0.5): ...", False),
        ("NOISE_WARNING = 0.05", False),
        ("limit = run.config.thresholds.max_accuracy_drop_points", False),
    ],
)
def test_search_when_code_binds_a_number_then_only_a_limit_is_found(
    source: str, is_limit: bool
) -> None:
    """By the name that the number is given to."""
    assert bool([*find_bound(source)]) is is_limit


def strict_run(*, lost: int) -> Run:
    """Return a run of 400 rows under stricter limits, whose candidate has lost some."""
    label = np.arange(400) % 2
    candidate = np.where(np.arange(400) < lost, 1 - label, label)
    rows = pd.DataFrame(
        {"id": range(400), "label": label, "baseline_score": label, "candidate_score": candidate}
    )
    limits = Thresholds(max_accuracy_drop_points=Fraction(3), max_time_ratio=Fraction(1, 4))
    run = SimpleNamespace(
        config=SimpleNamespace(thresholds=limits, seed=42),
        reported_accuracy=lambda: None,
        predictions=lambda: rows.assign(lineage=[f"family {i % 40}" for i in rows["id"]]),
        genomes=lambda ids: ids % 40,
        trainings=dict,
        caveats=lambda *_: (),
        taxonomy_steps=tuple,
        windows=lambda: None,
    )
    return cast("Run", run)


def told(result: CriterionResult) -> str:
    """Return every sentence of a result."""
    return " ".join([result.detail, *result.warnings, *result.next_steps])


@pytest.mark.parametrize(("lost", "state"), [(2, "PASS"), (8, "INCONCLUSIVE"), (12, "FAIL")])
def test_judges_when_the_limit_is_three_then_states_and_words_follow(lost: int, state: str) -> None:
    """The baseline's margin is the same number."""
    run = strict_run(lost=lost)

    drop, sanity = accuracy.judge(run), baseline.judge(run)

    limits = (Fraction(3), Fraction(53))
    assert (drop.state, drop.limit, sanity.limit) == (State(state), *limits)
    assert "and 3 points more are required" in sanity.detail
    assert ("3 points" in drop.detail) is (state != "PASS")
    assert find_said(told(drop) + told(sanity)) == []


def test_time_when_the_limit_is_a_quarter_then_state_and_words_follow() -> None:
    """Four tenths are too slow then."""
    result = judge_time([10.0] * 3, [4.0] * 3, limit_ratio="0.25")

    assert (result.state, result.limit) == (State.FAIL, Fraction(1, 4))
    assert "2.5 s a run are allowed" in told(result)
    assert find_said(told(result)) == []


def test_report_when_the_limit_is_three_then_no_other_is_said() -> None:
    """Comparisons, moved metrics and the count of looks, in a whole report."""
    facts: dict[str, Any] = dict(passing_verdict())
    facts["criteria"][0] |= accuracy.judge(strict_run(lost=2)).to_dict()
    facts["criteria"][1] |= judge_time([10.0] * 3, [1.0] * 3, limit_ratio="0.25").to_dict()
    facts["differences"]["recall"] = {"value": -0.04, "interval": [-0.06, -0.02]}
    facts["split"]["looks"] = 3

    report = render_markdown(parse_verdict(facts, origin="the test"), [], folder=Path())

    assert "below 3 points" in report
    assert "at most 0.25 times the baseline's time" in report
    assert "Recall (viral) moved by" in report
    assert "more than 3 points" in report
    assert find_said(report) == []
