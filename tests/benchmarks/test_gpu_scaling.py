"""What is read from runs on several GPUs, and how they compare."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from benchmarks.gpu_scaling import EmbedRun, is_same_everywhere, read_rate, render_markdown
from harness.embedding.extraction import Throughput
from harness.progress import Progress

ONE = EmbedRun(
    n_gpus=1,
    rate=read_rate(
        "embed candidate: 9,000 sequences in 9.0 s "
        "(1,000 sequences/s, 168,000 tokens/s, 70% of the device's peak)"
    ),
    command_seconds=30.0,
    rows_of_shards=(2048, 2048, 2048, 2048, 808),
    shards_sha256=("a", "b", "c", "d", "e"),
)
TWO = replace(
    ONE,
    n_gpus=2,
    rate=replace(ONE.rate, sequences_per_second=1_900, n_processes=2),
    command_seconds=25.0,
)


def test_read_rate_when_the_command_wrote_its_last_line_then_has_what_it_says() -> None:
    """The line is made by the code that makes it, amid what else a log holds."""
    log = io.StringIO("*****\nreading records: 1.06 MB in 0.1 s\n")
    log.seek(0, io.SEEK_END)
    total = Throughput(
        n_sequences=10_000,
        n_tokens=1_660_000,
        elapsed_seconds=2.0,
        flop=140.0,
        peak_flops=100.0,
        n_processes=2,
    )
    with Progress(log).task("embed baseline", 10_000, "sequences") as task:
        task.advance(10_000, note=str(total))
    log.write("baseline: 10,000 x 32 in work/embeddings/0\n")

    rate = read_rate(log.getvalue())

    assert (rate.sequences_per_second, rate.tokens_per_second) == (5_000, 830_000)
    assert (rate.peak_percent, rate.n_processes) == (70, 2)


def test_read_rate_when_the_peak_is_not_known_then_none_and_one_process() -> None:
    """As on a CPU."""
    rate = read_rate("embed candidate: 100 sequences in 0.5 s (200 sequences/s, 33,200 tokens/s)")

    assert (rate.peak_percent, rate.n_processes, rate.elapsed_seconds) == (None, 1, 0.5)


def test_read_rate_when_the_embeddings_were_there_before_then_an_error_shows_the_log() -> None:
    """A run that embedded nothing has no rate."""
    with pytest.raises(ValueError, match="candidate: 100 x 32 in work"):
        read_rate("candidate: 100 x 32 in work\n")


def test_render_when_two_gpus_were_faster_then_ratios_are_against_one() -> None:
    """Three of the five shards fall to the first GPU, the small one among them."""
    text = render_markdown([ONE, TWO], title="runs", unit="GPUs")

    assert "| 1 | 1,000 | 168,000 | 70% | 1.00 x | 1.00 x | 30.0 | 9.0 | 1.00 x |" in text
    assert "| 2 | 1,900 | 168,000 | 70% | 1.90 x | 1.84 x | 25.0 | 9.0 | 1.20 x |" in text
    assert "equal, byte for byte (5 shards)" in text


def test_render_when_a_run_left_other_bytes_then_it_is_named() -> None:
    """With how many of its shards differ."""
    other = replace(TWO, shards_sha256=("a", "x", "c", "y", "e"))

    text = render_markdown([ONE, TWO, other], title="runs", unit="GPUs")

    assert not is_same_everywhere([ONE, TWO, other])
    assert "- run 3 (2): 2 of 5 shards are not those of run 1 (1)" in text
    assert "run 2" not in text
