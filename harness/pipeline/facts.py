"""What a run has found out, in the form that ``verdict.json`` holds.

Only what the stages have already made is described; nothing is computed for the report's sake but
the metrics of predictions that are there. What a self-test found is kept here, too, for the
verdicts of the same configuration.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness import __version__
from harness.artifacts import digest_json, write_atomically
from harness.config import GateConfig
from harness.criteria import CriterionResult, State
from harness.criteria.intervals import compare_metrics
from harness.criteria.metrics import break_down, evaluate
from harness.documents import read_json
from harness.embedding.embedder import Abilities, Embedder, Facts, Rows
from harness.errors import ArtifactError
from harness.pipeline.cache import peak_memory_bytes
from harness.pipeline.samples import DrawnSplit
from harness.pipeline.stages import Pipeline, warn_of_brought
from harness.pipeline.vectors import SIDES, Embedded, Side

__all__ = ["FaultOutcome", "SelfTestResult", "describe_run", "keep_selftest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultOutcome:
    """How the gate took one planted fault.

    Attributes
    ----------
    fault, criterion : str
        What was planted; which criterion had to notice.
    expected : tuple of State
        How the criterion had to come out.
    found : State
        How it did.
    detail : str
        What it said.
    is_caught : bool
        Whether state and evidence are as expected.
    """

    fault: str
    criterion: str
    expected: tuple[State, ...]
    found: State
    detail: str
    is_caught: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTestResult:
    """All faults of one self-test, and when it ended (ISO 8601, UTC)."""

    outcomes: tuple[FaultOutcome, ...]
    finished: str

    @property
    def failed(self) -> int:
        """How many faults were not taken as expected."""
        return sum(not outcome.is_caught for outcome in self.outcomes)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, with the version of the project that was tested."""
        total = len(self.outcomes)
        return {
            "version": __version__,
            "passed": total - self.failed,
            "failed": self.failed,
            "total": total,
            "finished": self.finished,
            "outcomes": [asdict(outcome) for outcome in self.outcomes],
        }


def keep_selftest(result: SelfTestResult, work_dir: Path, config: GateConfig) -> Path:
    """Keep a result, in place of an older one of the same configuration; return its file."""
    path = _path(work_dir, config)
    write_atomically(path, json.dumps(result.to_dict(), indent=1) + "\n")
    return path


def summarise_kept_selftest(work_dir: Path, config: GateConfig) -> dict[str, Any] | None:
    """Return passed, failed, total and finished of the kept self-test of a configuration.

    Returns
    -------
    dict of JSON values, or None
        None if there is none, or if it tested another version of this project.

    Raises
    ------
    ArtifactError
        If the file is damaged.
    """
    path = _path(work_dir, config)
    if not path.is_file():
        return None
    try:
        kept = read_json(path)
        summary = {name: kept[name] for name in ("passed", "failed", "total", "finished")}
        return summary if kept["version"] == __version__ else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path}: no result of a self-test ({error!r}). Delete it, or run harness selftest"
        ) from error


def _path(work_dir: Path, config: GateConfig) -> Path:
    return work_dir / "selftest" / f"{digest_json(config.to_dict())[:16]}.json"


_TIMING_KEYS = (
    "baseline_seconds",
    "candidate_seconds",
    "closing_baseline_seconds",
    "ratio",
    "attempts",
    "repeats",
    "n_sequences",
    "n_residues",
    "tokenisation_seconds",
    "cpu_seconds",
    "warm_up_seconds",
    "token_budget",
    "n_out_of_memory",
)


def describe_run(pipeline: Pipeline, *, timing: CriterionResult | None = None) -> dict[str, Any]:
    """Return the facts of a run: data, split, both sides, training, timing, stages, artifacts.

    Parameters
    ----------
    pipeline : Pipeline
        Its stages, as far as they have been run.
    timing : CriterionResult, optional
        The judged embedding time.

    Returns
    -------
    dict of JSON values
        Top-level keys of ``verdict.json``; what is not known yet is left out.
    """
    samples = pipeline.samples
    deployed = pipeline.deployed.made()
    facts: dict[str, Any] = {
        "rehearsal_reasons": _rehearsal_reasons(pipeline),
        "reservations": [*_unknown_weights(pipeline), *(deployed.reservations if deployed else ())],
        "looser_than_deployment": list(pipeline.config.looser_than_deployment()),
        "artifacts": _artifacts(pipeline),
    }
    if samples.stored.made() is not None:
        facts["data"] = _describe_data(pipeline)
    if (drawn := samples.drawn.made()) is not None:
        facts["split"] = _describe_split(drawn, samples.directory())
    facts |= {side: _describe_side(pipeline, side) for side in SIDES}
    if trainings := pipeline.trainings():
        facts["training"] = dict(trainings)
    if (table := pipeline.predictions.made()) is not None:
        facts = _with_metrics(facts, table, samples.genomes(table["id"]))
    if timing is not None:
        facts["timing"] = {k: v for k, v in timing.evidence.items() if k in _TIMING_KEYS}
        facts["timing"]["interval"] = list(timing.interval) if timing.interval else None
    if selftest := summarise_kept_selftest(pipeline.cache.work_dir, pipeline.config):
        facts["selftest"] = selftest
    if extraction := _describe_extraction(pipeline):
        facts["extraction"] = extraction
    facts["stages"] = pipeline.cache.log.to_list()
    facts["peak_memory_bytes"] = peak_memory_bytes()
    return facts


def _rehearsal_reasons(pipeline: Pipeline) -> list[str]:
    reasons = []
    for side, embedder in _loaded(pipeline):
        if embedder.facts.is_random:
            reasons.append(f"the {side}'s weights are random")
        if embedder.facts.stand_in:
            reasons.append(f"the {side} stands in for {embedder.facts.stand_in}")
    nucleotide = pipeline.vectors.nucleotide_embedder.made()
    if nucleotide is not None and nucleotide.facts.is_random:
        reasons.append("the nucleotide model's weights are random")
    if len(_loaded(pipeline)) < len(SIDES):
        reasons.append("not both models were loaded")
    return reasons


def _unknown_weights(pipeline: Pipeline) -> Iterator[str]:
    """Yield a sentence for each side whose weights are nobody's published ones."""
    for side, embedder in _loaded(pipeline):
        if embedder.facts.origin == "unknown":
            files = ", ".join(embedder.facts.files_sha256) or embedder.name
            yield (
                f"The {side}'s weights ({files}) are of unknown origin: no published sha256 is "
                "theirs."
            )


def _loaded(pipeline: Pipeline) -> list[tuple[Side, Embedder]]:
    found = ((side, pipeline.vectors.embedder.made(side)) for side in SIDES)
    return [(side, embedder) for side, embedder in found if embedder is not None]


def _describe_data(pipeline: Pipeline) -> dict[str, Any]:
    records, data = pipeline.samples.records(), pipeline.config.data
    n_viral = int(records["label"].sum())
    return {
        "n_records": len(records),
        "n_viral": n_viral,
        "n_nonviral": len(records) - n_viral,
        "n_lineages": int(records["lineage"].replace("", pd.NA).nunique()),
        "n_genomes": int(records["genome"].nunique()),
        "n_rejected": pipeline.samples.n_rejected(),
        "sources": [path.name for path in (*data.viral, *data.nonviral)],
    }


def _describe_split(drawn: DrawnSplit, directory: Path) -> dict[str, Any]:
    split = drawn.split
    test = {count.label: count.n_test for count in split.counts}
    return split.to_dict() | {
        "n_train": len(split.train),
        "n_validation": len(split.validation),
        "n_test": len(split.test),
        "test_viral": test[1],
        "test_nonviral": test[0],
        "seeds_tried": list(drawn.seeds_tried),
        "directory": str(directory),
    }


def _describe_side(pipeline: Pipeline, side: Side) -> dict[str, Any]:
    settings = getattr(pipeline.config, side)
    embedder = pipeline.vectors.embedder.made(side)
    known, can = (embedder.facts, Abilities(embedder)) if embedder else (None, None)
    return {
        "name": settings.name,
        "model": settings.model,
        "dtype": settings.dtype,
        "dim": embedder.dim if embedder else None,
        "engine": known.engine if known else None,
        "parameters": known.n_parameters if known else None,
        "token_budget": can.token_budget if can else None,
        "n_out_of_memory": can.n_out_of_memory if can else None,
        "is_random": known.is_random if known else settings.random_weights is not None,
        "model_sha256": known.weights_sha256 if known else None,
        "weights": _describe_weights(known) if known else None,
        "may_have_seen_test_rows": bool(warn_of_brought(pipeline.config, sides=(side,))),
    }


def _describe_weights(known: Facts) -> dict[str, Any]:
    return {
        "origin": known.origin,
        "published_as": known.published_as,
        "files_sha256": dict(known.files_sha256),
    }


def _describe_extraction(pipeline: Pipeline) -> dict[str, Any]:
    """Return how each store of embeddings was made, in this run or an earlier one."""
    vectors = pipeline.vectors
    embedded: dict[str, Embedded[Rows] | None] = {s: vectors.embeddings.made(s) for s in SIDES}
    embedded["nucleotide"] = vectors.nucleotides.made()
    return {name: dict(made.notes) for name, made in embedded.items() if made and made.notes}


def _with_metrics(
    facts: dict[str, Any], table: pd.DataFrame, groups: pd.Series[str] | None
) -> dict[str, Any]:
    scores = {side: table[f"{side}_score"] for side in SIDES}
    compared = compare_metrics(
        table["label"], scores["baseline"], scores["candidate"], groups=groups
    ).to_dict()
    metrics = {side: evaluate(table["label"], scores[side]).to_dict() for side in SIDES}
    sides = {
        side: facts[side] | metrics[side] | {"intervals": compared["intervals"][side]}
        for side in SIDES
    }
    known = ("lineage", "length", "genome", "novelty", "identity")
    columns = [name for name in known if name in table]
    breakdowns = {by: break_down(table.dropna(subset=by), by) for by in columns}
    return facts | sides | {"differences": compared["differences"], "breakdowns": breakdowns}


def _artifacts(pipeline: Pipeline) -> dict[str, dict[str, str]]:
    """Return path and digest of what a reader may want to open, and of the file to deploy."""
    found = {
        name: {"path": str(artifact.path), "sha256": artifact.sha256}
        for name, artifact in pipeline.cache.obtained.items()
    }
    return found | pipeline.files()
