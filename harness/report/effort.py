"""What is said about the work: timed rounds, how embeddings were made, training, stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from statistics import fmean, stdev

from harness.report.document import (
    ABSENT,
    Block,
    Code,
    Column,
    Note,
    Paragraph,
    Table,
    columns,
    label,
    show_bytes,
    show_moment,
    show_number,
    show_percent,
    show_seconds,
    side_heads,
    side_name,
    without_empty,
)
from harness.report.evidence import evidence_blocks, facts_table, rows_table, show_value
from harness.verdict.contents import (
    SIDES,
    Extraction,
    Json,
    SeedResult,
    Stage,
    Timing,
    Verdict,
)

__all__ = [
    "environment_blocks",
    "extraction_blocks",
    "speed_blocks",
    "stages_blocks",
    "training_blocks",
]

# What the tables of speed show in their own way, so that the generic evidence leaves it out.
_RUNS = ("baseline_seconds", "candidate_seconds", "closing_baseline_seconds")
_SHOWN = (*_RUNS, "attempts", "ratio", "interval", "warnings", "speed_up", "n_out_of_memory")
BATCHING = "Batching: the baseline in padded batches of 16, in file order, against these"

_STAGE_MEMORY = (
    "GPU memory: the most that tensors of this process took. Where several GPUs embed, each has a "
    "process of its own: what these took stands with the embeddings."
)

_TRAINING = {
    "evaluated": "Evaluated model",
    "epochs_run": "Epochs run",
    "best_epoch": "Best epoch on validation",
    "stopped_early": "Stopped early",
    "n_train": "Training rows",
    "n_validation": "Validation rows",
}
_PACE = (
    *("Store", "#Sequences", "#Time", "#Sequences per second", "#Tokens per second"),
    *("#Share of the device's peak", "#Processes", "#GPU memory", "#Times that it ran out"),
)
_MODELS = (
    *("name", "model", "engine", "dtype", "dim", "parameters", "is_random", "model_sha256"),
    "may_have_seen_test_rows",
)


def speed_blocks(verdict: Verdict, pictures: list[Block]) -> list[Block]:
    """Return how long both embedders took, round by round; a want of memory comes first."""
    timing, evidence = verdict.timing, verdict.evidence("embedding-time")
    blocks: list[Block] = [*_memory_notes(verdict), *_rounds_table(verdict)]
    blocks += [*pictures, *_attempts(timing)]
    if causes := evidence.get("speed_up"):
        blocks.append(_causes_table(causes))
    rest = {**timing.content, **evidence}
    return blocks + evidence_blocks(rest, title="Timing", skip=_SHOWN)


def extraction_blocks(verdict: Verdict) -> list[Block]:
    """Return how each store was made."""
    stores = {_store_name(verdict, name): store for name, store in verdict.extraction.items()}
    table = Table(
        title="How they were made",
        columns=columns(*_PACE),
        rows=tuple((name, *_pace(store)) for name, store in stores.items()),
        note="By the call that finished the store, in this run or an earlier one. On GPUs each "
        "process has one; its memory is the most that one of them held, with all models that it "
        "had loaded.",
    )
    return [without_empty(table)] if stores else []


def training_blocks(verdict: Verdict, pictures: list[Block]) -> list[Block]:
    """Return both heads' recipes, stopping points and loss curves."""
    heads = verdict.training
    blocks: list[Block] = [_training_table(verdict)] if heads else []
    blocks += pictures
    for side, head in heads.items():
        if len(head.heads) > 1:
            blocks.append(_seeds_table(f"Seeds of {side_name(verdict, side)}", head.heads))
    recipes: list[Json] = [heads[side].recipe for side in reversed(SIDES) if side in heads]
    return blocks + evidence_blocks(recipes[0] if recipes else {}, title="Recipe of the heads")


def stages_blocks(verdict: Verdict) -> list[Block]:
    """Return how long each stage took, what it held on a GPU, and which were reused."""
    blocks: list[Block] = [_stages_table(verdict.stages)] if verdict.stages else []
    if verdict.peak_memory_bytes is not None:
        blocks.append(Paragraph(text=f"Peak memory: {show_bytes(verdict.peak_memory_bytes)}."))
    return blocks


def environment_blocks(verdict: Verdict) -> list[Block]:
    """Return the models, artifacts, environment and the command that reproduces the run."""
    blocks: list[Block] = []
    if verdict.command:
        blocks += [Paragraph(text="To reproduce this run:"), Code(text=verdict.command)]
    facts = [side.content for side in verdict.sides.values()]
    models = _side_rows(facts, {key: label(key) for key in _MODELS})
    if models:
        heads = columns("Embedder", "Baseline", "Candidate")
        blocks.append(Table(title="Models", columns=heads, rows=models))
    if verdict.artifacts:
        code = (Column(title="Path", kind="code"), Column(title="sha256", kind="code"))
        files = verdict.artifacts.items()
        rows = tuple((name, one.path or ABSENT, one.sha256 or ABSENT) for name, one in files)
        blocks.append(Table(title="Artifacts", columns=columns("Artifact") + code, rows=rows))
    if test := verdict.selftest:
        text = (
            f"Self-test of the gate with this configuration, {show_moment(test.finished)}: "
            f"{test.passed} of {test.total} planted faults were taken as expected."
        )
        blocks.append(Paragraph(text=text))
    return blocks + evidence_blocks(verdict.environment, title="Environment")


def _memory_notes(verdict: Verdict) -> Iterator[Note]:
    """Warn of each side whose batches had to become smaller, in the rounds or before."""
    for name, side in verdict.sides.items():
        most = max(verdict.timing.n_out_of_memory.get(name, 0), side.n_out_of_memory or 0)
        budget = verdict.timing.token_budget.get(name, side.token_budget)
        if most:
            yield Note(
                text=f"The {name} ran out of GPU memory {most:,} time{'s'[: most != 1]}: "
                f"batches of {show_number(budget)} tokens."
            )


def _rounds_table(verdict: Verdict) -> Iterator[Table]:
    """Yield one row a side: every round, their mean and their spread."""
    timing = verdict.timing
    names = [_store_name(verdict, side) for side in SIDES]
    names.append(f"{names[0]}, once more at the end")
    seconds = (timing.baseline_seconds, timing.candidate_seconds, timing.closing_baseline_seconds)
    runs = dict(zip(names, seconds, strict=True))
    most = max(map(len, runs.values()))
    heads = [f"#Round {number}" for number in range(1, most + 1)]
    heads += ["#Mean", "#Coefficient of variation", "#Sequences per second"]
    rows = [(name, *_rounds(run, most, timing)) for name, run in runs.items() if run]
    if rows:
        yield Table(
            title="Embedding time, raw rounds (seconds)",
            columns=columns("Model", *heads),
            rows=tuple(rows),
            note="In turns, from protein strings on the host to pooled embeddings on the host; "
            "tokenisation is inside, loading and compilation are outside. Each round embeds the "
            f"sequences {timing.repeats} times.",
        )


def _rounds(seconds: Sequence[float], most: int, timing: Timing) -> tuple[str, ...]:
    mean = fmean(seconds)
    spread = stdev(seconds) / mean if len(seconds) > 1 and mean else None
    rounds = [show_seconds(one) for one in seconds] + [ABSENT] * (most - len(seconds))
    rate = show_number(_per((timing.n_sequences or 0) * timing.repeats, mean))
    return (*rounds, show_seconds(mean), show_percent(spread), rate)


def _attempts(timing: Timing) -> Iterator[Table]:
    rows = [
        {"attempt": number, **{key: attempt.get(key) for key in (*_RUNS, "disturbances")}}
        for number, attempt in enumerate(timing.attempts, start=1)
    ]
    if len(rows) > 1:
        title = "Every attempt; more than half must agree"
        yield without_empty(rows_table(rows, title=title))


def _causes_table(causes: Json) -> Table:
    """Split the speed-up into factors that multiply to what a deployment gains."""
    deployed, judged = causes["baseline_dtype"], causes["candidate_dtype"]
    factors = {
        f"Model: both sides in {judged}, the ratio that is judged": causes["model"],
        f"Precision: the baseline in {deployed} against {judged}": causes["precision"],
        BATCHING: causes["batching"],
    }
    known = [factor for factor in factors.values() if factor is not None]
    if len(known) == len(factors):
        factors["As deployed: model and precision"] = prod(known[:2])
        factors["All three, over a baseline in padded batches"] = prod(known)
    return facts_table(
        {text: show_number(factor) for text, factor in factors.items()},
        title="Where the speed-up comes from (times as fast)",
        note="From a few rounds outside the judged ones; batching on "
        f"{show_number(causes['n_batching_sequences'])} sequences.",
    )


def _store_name(verdict: Verdict, store: str) -> str:
    """Return a store's name and its model's, marked where its weights are random."""
    title = store.capitalize()
    return f"{title}: {side_name(verdict, store)}" if store in SIDES else title


def _pace(store: Extraction) -> tuple[str, ...]:
    seconds = store.elapsed_seconds
    has_rest = store.n_rows not in (None, store.n_sequences)
    return (
        f"{show_number(store.n_sequences)}{f' of {show_number(store.n_rows)}' if has_rest else ''}",
        show_seconds(seconds),
        show_number(_per(store.n_sequences, seconds)),
        show_number(_per(store.n_tokens, seconds)),
        show_percent(_per(_per(store.flop, seconds), store.peak_flops)),
        show_number(store.n_processes),
        show_bytes(store.gpu_memory_bytes),
        str(store.n_out_of_memory or ABSENT),
    )


def _per(amount: float | None, unit: float | None) -> float | None:
    """Return a rate; None where one of both is unknown or nothing."""
    return amount / unit if amount and unit else None


def _training_table(verdict: Verdict) -> Table:
    facts = [verdict.training[s].content if s in verdict.training else {} for s in SIDES]
    return Table(
        title="Both heads",
        columns=columns("What", *side_heads(verdict)),
        rows=_side_rows(facts, _TRAINING),
        note="Early stopping reads the validation part, never the test set.",
    )


def _side_rows(facts: Sequence[Json], labels: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Return what both sides say under each key, where one of them says anything."""
    return tuple(
        (text, *(show_value(side.get(key)) for side in facts))
        for key, text in labels.items()
        if any(side.get(key) is not None for side in facts)
    )


def _seeds_table(title: str, heads: Sequence[SeedResult]) -> Table:
    """Return one row a seed, the declared one first."""
    return Table(
        title=title,
        columns=columns("Seed", "#Epochs run", "#Validation loss", "#Validation accuracy"),
        rows=tuple(
            (
                f"{head.seed} (ships)" if head is heads[0] else str(head.seed),
                show_number(head.epochs_run),
                show_number(head.validation_loss),
                show_percent(head.validation_accuracy),
            )
            for head in heads
        ),
        note="All are trained on the same rows; the head of the declared seed ships.",
    )


def _stages_table(stages: Sequence[Stage]) -> Table:
    rows = [
        (
            stage.name or ABSENT,
            show_seconds(stage.elapsed_seconds),
            "reused" if stage.is_reused else "computed",
            show_bytes(stage.gpu_memory_bytes),
        )
        for stage in stages
    ]
    peaks = [stage.gpu_memory_bytes for stage in stages if stage.gpu_memory_bytes is not None]
    total = show_seconds(sum(stage.elapsed_seconds for stage in stages))
    rows.append(("All stages", total, "", show_bytes(max(peaks, default=None))))
    table = Table(
        title="Time and GPU memory of each stage" if peaks else "Time of each stage",
        columns=columns("Stage", "#Time", "How", "#GPU memory"),
        rows=tuple(rows),
        note=_STAGE_MEMORY if peaks else "",
    )
    return without_empty(table)
