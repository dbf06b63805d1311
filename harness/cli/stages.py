"""The stages one by one, for work that takes hours: prepare, split, embed, train; and export.

``pytest acceptance/`` then finds their artifacts in the work directory. What all commands share is
here, too: their options, where these point unless given, and the pipeline of a ``gate.toml``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.config import load_config
from harness.errors import MissingInput
from harness.invocation import find_root

if TYPE_CHECKING:
    from harness.config import GateConfig, ModelConfig
    from harness.embedding.devices import Ranks
    from harness.embedding.embedder import Rows
    from harness.pipeline import Pipeline, Side
    from harness.pipeline.vectors import Embedded
    from harness.progress import Progress
    from harness.training.foreign import Form, Provenance

__all__ = [
    "GATE_TOML",
    "VERDICT",
    "WORK",
    "ConfigOption",
    "WorkOption",
    "embed",
    "export",
    "from_root",
    "open_pipeline",
    "open_progress",
    "prepare",
    "split",
    "taxonomy",
    "train",
]


def from_root(context: typer.Context, parameter: typer.CallbackParam, path: Path) -> Path:
    """Return a path as it was given; a default lies where pytest looks for it, too."""
    source = context.get_parameter_source(str(parameter.name))
    is_given = source is None or source.name != "DEFAULT"
    return path if is_given else Path(os.path.relpath(find_root(Path.cwd()) / path))


ConfigOption = Annotated[
    Path,
    typer.Option("--gate-config", callback=from_root, help="Settings of the run.", metavar="PATH"),
]
WorkOption = Annotated[
    Path,
    typer.Option("--work-dir", callback=from_root, help="Where artifacts are kept.", metavar="DIR"),
]
GATE_TOML, WORK, VERDICT = Path("gate.toml"), Path("work"), Path("reports/verdict.json")


def open_pipeline(gate_config: Path, work_dir: Path, *, ranks: Ranks | None = None) -> Pipeline:
    """Return the stages of the run that a ``gate.toml`` describes, for one of several ranks.

    Raises
    ------
    MissingInput
        If there is no such file.
    """
    from harness.pipeline import Pipeline

    config = load_gate_config(gate_config)
    return Pipeline(config, work_dir, progress=open_progress(), ranks=ranks)


def load_gate_config(path: Path) -> GateConfig:
    """Return the settings in a file, or say that there is none."""
    if not path.is_file():
        raise MissingInput(
            f"There is no {path}",
            remedy="Write one (see README.md), or name it with --gate-config",
        )
    return load_config(path)


def open_progress() -> Progress:
    """Return what shows progress on stderr: moving bars in a terminal, else lines."""
    from harness.progress import Progress

    return Progress(sys.stderr, is_live=sys.stderr.isatty())


def export(
    source: Annotated[
        Path,
        typer.Argument(help="A verdict.json, for its head; a head; or a run's settings (.toml)."),
    ],
    target: Annotated[
        Path, typer.Argument(help="The file to write; for a run's embeddings, the folder.")
    ],
    fmt: Annotated[
        Literal["checkpoint", "module"],
        typer.Option("--format", help="The dict with a version, or the whole pickled module."),
    ] = "checkpoint",
    verdict: Annotated[
        Path,
        typer.Option("--verdict", callback=from_root, help="What authorises a head."),
    ] = VERDICT,
    unjudged: Annotated[
        bool, typer.Option("--unjudged", help="Ask for no verdict; the file says so.")
    ] = False,
    history_lost: Annotated[
        bool,
        typer.Option("--history-lost", help="It is known that earlier verdicts were lost."),
    ] = False,
    side: Annotated[
        Literal["baseline", "candidate"],
        typer.Option("--side", help="Whose protein embeddings, of a run's."),
    ] = "candidate",
    work_dir: WorkOption = WORK,
) -> None:
    """Write a head that a verdict authorises, or a run's embeddings, as VirNucPro takes them."""
    if not source.exists():
        raise MissingInput(
            f"There is no {source}",
            remedy="Name reports/verdict.json, a head that `harness train` made, or a gate.toml",
        )
    if source.is_dir():
        raise typer.BadParameter(
            f"{source} is a folder; expected a verdict (.json), a head (.safetensors) or a run's "
            "settings (.toml)"
        )
    if source.suffix == ".toml":
        _export_embeddings(open_pipeline(source, work_dir), side, target)
        typer.echo(f"virnucpro: {target}")
        return
    if source.suffix == ".json":
        source, verdict = _judged_head(source), source
    provenance = None if unjudged else _judge(source, verdict, history_lost)
    _export_head(source, target, fmt, provenance)
    typer.echo(f"{fmt}: {target}, {'unjudged' if unjudged else f'authorised by {verdict}'}")


def _judged_head(verdict: Path) -> Path:
    from harness.verdict.verdict import find_judged, read_verdict

    return find_judged(read_verdict(verdict), verdict)


def _judge(source: Path, verdict_path: Path, history_lost: bool) -> Provenance:
    """Return what is to be said of a head that a verdict authorises; raise of any other."""
    from harness.training.foreign import Provenance
    from harness.verdict.verdict import NotAuthorised, authorise, digest_verdict

    try:
        verdict = authorise(source, verdict_path, is_history_lost_known=history_lost)
    except NotAuthorised as error:
        remedy = "With --unjudged it is written all the same, and marked so"
        raise NotAuthorised(f"{error}. {remedy}") from error
    candidate = verdict.sides["candidate"]
    return Provenance(
        verdict_sha256=digest_verdict(verdict),
        head_sha256=verdict.artifacts["checkpoint"].sha256,
        model=candidate.model or "unknown",
        model_sha256=candidate.model_sha256 or "unknown",
        dtype=str(candidate.content.get("dtype", "unknown")),
    )


def _export_head(source: Path, target: Path, fmt: Form, provenance: Provenance | None) -> None:
    from harness.training.foreign import export_virnucpro

    written = datetime.fromtimestamp(source.stat().st_mtime, UTC)
    export_virnucpro(
        source,
        target,
        training_date=written.date().isoformat(),
        provenance=provenance,
        form=fmt,
    )


def _export_embeddings(pipeline: Pipeline, side: Side, target: Path) -> None:
    from harness.data.virnucpro import NUCLEOTIDE_ENDING
    from harness.embedding.virnucpro import export_embeddings
    from harness.pipeline import compute_threads

    vectors = pipeline.vectors
    if vectors.merged(side) is not None:
        raise typer.BadParameter(f"[{side}] brings features, which are VirNucPro's files already")
    with compute_threads(pipeline.config.threads):
        nucleotide, protein = vectors.feature_stores(side)
    records = pipeline.samples.records()
    with open_progress().task("write embeddings", len(records), "records") as task:
        endings = export_embeddings(records, nucleotide, protein, target, task=task)
    typer.echo(f"{side}: {len(records):,} records in files of *{', *'.join(endings)}")
    if NUCLEOTIDE_ENDING not in endings:
        typer.echo(
            f"no *{NUCLEOTIDE_ENDING}: the nucleotide embeddings are {nucleotide.dim} wide, so "
            "they are not DNABERT-S's"
        )


STOPPED = 130  # the exit code of a program that was stopped by a signal, as shells give it


Which = Literal["both", "baseline", "candidate"]


def prepare(gate_config: ConfigOption = GATE_TOML, work_dir: WorkOption = WORK) -> None:
    """Read the sequences into one record table; what cannot be used stands in rejected.csv."""
    pipeline = open_pipeline(gate_config, work_dir)
    folder = pipeline.samples.stored().path
    typer.echo((folder / "summary.txt").read_text(encoding="utf-8").rstrip())
    typer.echo(f"records: {folder}")


def taxonomy(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="GenBank files, tables, NCBI's accession2taxid or assembly_summary, ICTV's VMR."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The table to write.")] = Path("taxonomy.tsv"),
    taxdump: Annotated[
        Path | None, typer.Option("--taxdump", help="NCBI's names.dmp, nodes.dmp, merged.dmp.")
    ] = None,
    gate_config: ConfigOption = GATE_TOML,
) -> None:
    """Write the taxonomy of the records in [data], from what NCBI and ICTV publish."""
    from harness.artifacts import write_atomically
    from harness.data import read_records
    from harness.data.taxonomy import make_taxonomy

    data = load_gate_config(gate_config).data
    everything = Fraction(1)
    found = read_records(
        data.viral, data.nonviral, max_reject_share=everything, progress=open_progress()
    )
    accessions = set(found.records["accession"])
    table = make_taxonomy(sources, accessions, taxdump=taxdump)
    write_atomically(out, table.to_csv(sep="\t", index=False))
    typer.echo(f"{out}: {len(table):,} of {len(accessions):,} accessions of the records")


def split(
    gate_config: ConfigOption = GATE_TOML,
    work_dir: WorkOption = WORK,
    redraw: Annotated[
        bool, typer.Option("--redraw", help="Replace the test set; its seed stays on record.")
    ] = False,
) -> None:
    """Draw the test set, and the validation part from the rest; what was drawn before stays."""
    pipeline = open_pipeline(gate_config, work_dir)
    drawn = pipeline.samples.drawn(redraw=redraw)
    for name in ("train", "validation", "test"):
        typer.echo(f"{name}: {len(getattr(drawn.split, name)):,} records")
    typer.echo(f"split: {drawn.path}")


def embed(
    which: Annotated[Which, typer.Argument()] = "both",
    gate_config: ConfigOption = GATE_TOML,
    work_dir: WorkOption = WORK,
    only: Annotated[
        Literal["nucleotide", "protein"] | None,
        typer.Option("--only", help="Leave out the other part."),
    ] = None,
) -> None:
    """Embed all records; an interrupted extraction goes on where it stopped.

    What a side brings is left as it is. With device = "cuda" every GPU of this machine is used. On
    several machines, start the same command with torchrun on each: torchrun --nnodes ...
    --nproc-per-node gpu --no-python harness embed ...; they must share the work directory.
    """
    from harness.embedding.devices import join_ranks
    from harness.pipeline import compute_threads

    with join_ranks() as ranks:
        pipeline = open_pipeline(gate_config, work_dir, ranks=ranks)
        with compute_threads(pipeline.config.threads):
            if only != "protein":
                _show(pipeline, _embed_nucleotides(pipeline))
            for side in _sides(which) if only != "nucleotide" else ():
                _show(pipeline, _embed_proteins(pipeline, side))


def _embed_nucleotides(pipeline: Pipeline) -> str:
    """Return what there is to say of them; they are part of the features that a side brings."""
    if pipeline.config.baseline.features and pipeline.config.candidate.features:
        return "nucleotide: both sides bring features; nothing is embedded"
    return _describe("nucleotide", pipeline.vectors.nucleotides())


def _embed_proteins(pipeline: Pipeline, side: Side) -> str:
    """Return what there is to say of them; the model of a side that brings them is only timed."""
    settings: ModelConfig = getattr(pipeline.config, side)
    brought = settings.features or settings.embeddings
    if not pipeline.vectors.has_model(side):
        brought = brought or settings.predictions or settings.metrics
    if brought is not None:
        return f"{side}: brings {brought}; nothing is embedded"
    return _describe(side, pipeline.vectors.embeddings(side))


def _describe(name: str, embedded: Embedded[Rows]) -> str:
    store = embedded.store
    return f"{name}: {len(store):,} x {store.dim} in {embedded.path}"


def _show(pipeline: Pipeline, line: str) -> None:
    if pipeline.cache.ranks.is_first:
        typer.echo(line)


def train(
    which: Annotated[Which, typer.Argument()] = "both",
    gate_config: ConfigOption = GATE_TOML,
    work_dir: WorkOption = WORK,
) -> None:
    """Train the heads on the training part, as the gate would; what was stopped goes on.

    With both sides, also the placebo's, which see the nucleotides alone.

    SIGINT and SIGTERM stop after the steps under way and save.
    """
    from harness.pipeline import compute_threads

    pipeline = open_pipeline(gate_config, work_dir)
    threads = compute_threads(pipeline.config.threads)
    with threads, _explained_stop():
        for side in _sides(which):
            settings: ModelConfig = getattr(pipeline.config, side)
            brought = settings.checkpoint or settings.predictions or settings.metrics
            if brought is not None:
                typer.echo(f"{side}: brings {brought}; no head is trained")
                continue
            head = pipeline.heads.head(side, takes_signals=True)
            facts = pipeline.heads.training(side)
            typer.echo(f"{side}: {facts['epochs_run']} epochs; {head.path / 'head.safetensors'}")
        if which == "both":
            _train_placebo(pipeline)


def _train_placebo(pipeline: Pipeline) -> None:
    """Train the head that sees the nucleotides alone, where these can be told apart."""
    try:
        head = pipeline.heads.head("placebo", takes_signals=True)
    except MissingInput as missing:
        typer.echo(f"placebo: {missing}; no head is trained")
        return
    facts = pipeline.heads.training("placebo")
    typer.echo(f"placebo: {facts['epochs_run']} epochs; {head.path / 'head.safetensors'}")


@contextmanager
def _explained_stop() -> Iterator[None]:
    """Say how a training that was asked to stop goes on; typer would only say 'Aborted'."""
    from harness.training.trainer import TrainingInterrupted

    try:
        yield
    except TrainingInterrupted as stopped:
        typer.echo(str(stopped), err=True)
        raise typer.Exit(STOPPED) from stopped


def _sides(which: Which) -> tuple[Side, ...]:
    sides: tuple[Side, ...] = ("baseline", "candidate")
    return tuple(side for side in sides if which in ("both", side))
