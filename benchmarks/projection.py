"""From measured stages to larger numbers of records: the arithmetic, and its tables.

Every projection is in proportion to the rows; what is not, the text of docs/scaling.md says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Machine", "StageCost", "markdown_table", "render_markdown"]

VIRNUCPRO_RECORDS = 2_100_000
TARGETS = (VIRNUCPRO_RECORDS, 100_000_000, 1_000_000_000)
# A full VirNucPro run took its users 109 epochs.
FULL_EPOCHS = 109
ROWS_PER_STEP = 32
TRAIN_SHARE = 0.81  # 90% of the 90% that are not in the test set
# VirNucPro's practice on an H100: ESM2 3B in float32, batches of 16 in file order; 500 bp windows.
TODAY_SEQUENCES_PER_SECOND = 41
TODAY_SECONDS_PER_STEP = 3590e-6
FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What was measured on, and what is asked of many of them.

    Attributes
    ----------
    name : str
        The device.
    days : float
        In which a large extraction must end.
    price_per_gpu_hour : float
        In any currency.
    """

    name: str
    days: float
    price_per_gpu_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """What one stage cost.

    Attributes
    ----------
    name : str
        The stage.
    n_rows : int
        Records that went through it; 0 where the cost does not depend on them.
    elapsed_seconds : float
        Wall clock of the whole stage.
    memory_bytes, gpu_memory_bytes : int
        The most that the process held meanwhile.
    disk_bytes : int
        What it left in the work directory.
    dim, n_embedded, embedded_seconds : int, int, float
        Of an extraction: width, sequences that were embedded, and seconds in the embedder.
    n_epochs, epochs_seconds : int, float
        Of a training: how many, and their seconds without what only the first one compiles.
    """

    name: str
    n_rows: int
    elapsed_seconds: float
    memory_bytes: int
    gpu_memory_bytes: int
    disk_bytes: int
    dim: int = 0
    n_embedded: int = 0
    embedded_seconds: float = 0.0
    n_epochs: int = 0
    epochs_seconds: float = 0.0

    @property
    def other_seconds(self) -> float:
        """What neither the embedder nor the epochs took."""
        return self.elapsed_seconds - self.embedded_seconds - self.epochs_seconds

    def project_seconds(self, n_records: int) -> float:
        """Return the seconds for so many records, each of them embedded, over all epochs."""
        if not self.n_rows:
            return self.elapsed_seconds
        seconds = self.other_seconds * n_records / self.n_rows
        if self.n_embedded:
            seconds += self.embedded_seconds * n_records / self.n_embedded
        if self.n_epochs:
            seconds += self.epochs_seconds * n_records / self.n_rows * FULL_EPOCHS / self.n_epochs
        return seconds

    def project_disk_bytes(self, n_records: int) -> float:
        """Return what the stage leaves for so many records."""
        return self.disk_bytes * n_records / self.n_rows if self.n_rows else self.disk_bytes


def render_markdown(costs: Sequence[StageCost], machine: Machine, *, n_records: int) -> str:
    """Return the tables of docs/scaling.md."""
    sections = [
        f"## Measured: {n_records:,} records on {machine.name}",
        _measured(costs),
        f"## Projected: {VIRNUCPRO_RECORDS:,} records on the same machine",
        _projected(costs),
        "## Beyond one machine",
        _extractions(costs, machine),
    ]
    return "\n\n".join(sections) + "\n"


def _measured(costs: Iterable[StageCost]) -> str:
    rows = [
        (
            cost.name,
            f"{cost.n_rows:,}" if cost.n_rows else "",
            f"{cost.n_embedded:,} embedded" if cost.n_embedded else _epochs(cost.n_epochs),
            f"{cost.elapsed_seconds:.1f}",
            _gigabytes(cost.memory_bytes),
            _gigabytes(cost.gpu_memory_bytes),
            _gigabytes(cost.disk_bytes),
        )
        for cost in costs
    ]
    header = ("stage", "records", "of which", "seconds", "peak RAM, GB", "peak GPU, GB", "disk, GB")
    return markdown_table(header, rows)


def _projected(costs: Sequence[StageCost]) -> str:
    n_records = VIRNUCPRO_RECORDS
    rows = []
    for cost in costs:
        today = _today_seconds(cost, n_records)
        seconds = cost.project_seconds(n_records)
        rows.append(
            (
                cost.name,
                _formula(cost, n_records),
                _duration(seconds),
                _duration(today) if today else "",
                _gigabytes(cost.project_disk_bytes(n_records)),
            )
        )
    total = sum(cost.project_seconds(n_records) for cost in costs)
    rows.append(("all", "", _duration(total), "", ""))
    header = ("stage", "arithmetic", "time", "today's practice", "disk, GB")
    return markdown_table(header, rows)


def _formula(cost: StageCost, n_records: int) -> str:
    if not cost.n_rows:
        return "as measured"
    share = f"x {n_records:,} / {cost.n_rows:,}"
    formula = f"{cost.other_seconds:.1f} s {share}"
    if cost.n_embedded:
        formula += f" + {cost.embedded_seconds:.1f} s x {n_records:,} / {cost.n_embedded:,}"
    if cost.n_epochs:
        epochs = f"{FULL_EPOCHS} / {cost.n_epochs} epochs"
        formula += f" + {cost.epochs_seconds:.2f} s {share} x {epochs}"
    return formula


def _today_seconds(cost: StageCost, n_records: int) -> float:
    """Return what VirNucPro's own practice takes for the same, where that was measured."""
    if cost.name == "embed baseline":
        return n_records / TODAY_SEQUENCES_PER_SECOND
    if cost.n_epochs and cost.name != "train placebo":  # of which today's practice has none
        steps = math.ceil(TRAIN_SHARE * n_records / ROWS_PER_STEP)
        return FULL_EPOCHS * steps * TODAY_SECONDS_PER_STEP
    return 0.0


def _extractions(costs: Iterable[StageCost], machine: Machine) -> str:
    rows = [
        _extraction(cost, machine, n_records)
        for n_records in TARGETS
        for cost in costs
        if cost.n_embedded and cost.embedded_seconds
    ]
    header = (
        "extraction",
        "records",
        "GPU hours",
        f"GPUs to end in {machine.days:g} days",
        f"cost at {machine.price_per_gpu_hour:g} per GPU hour",
        "float32, TB",
        "float16, TB",
    )
    note = (
        "GPU hours = records / (measured sequences per second x 3600); GPUs = GPU hours / "
        f"({machine.days:g} x 24), rounded up; TB = records x width x 4 (or 2) bytes / 10^12."
    )
    return markdown_table(header, rows) + "\n\n" + note


def _extraction(cost: StageCost, machine: Machine, n_records: int) -> tuple[str, ...]:
    per_second = cost.n_embedded / cost.embedded_seconds
    gpu_hours = n_records / per_second / 3600
    terabytes = n_records * cost.dim * FLOAT32_BYTES / 1e12
    return (
        f"{cost.name.removeprefix('embed ')}, {per_second:,.0f} per second",
        f"{n_records:,}",
        f"{gpu_hours:,.1f}",
        f"{math.ceil(gpu_hours / (machine.days * 24)):,}",
        f"{gpu_hours * machine.price_per_gpu_hour:,.0f}",
        f"{terabytes:,.2f}",
        f"{terabytes / 2:,.2f}",
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose columns but the first are aligned to the right."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _epochs(n_epochs: int) -> str:
    return f"{n_epochs} epochs" if n_epochs else ""


def _gigabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.2f}"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
