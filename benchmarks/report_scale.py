"""Time the reports of a run whose test set has 210,000 rows, VirNucPro's published size.

It takes the sample PASS, puts invented predictions of that many rows behind it, breaks them down as
a run does, and renders figures, markdown and HTML:

    python benchmarks/report_scale.py [ROWS]

Required: at most 10 s on 2 cores, and less than 5 MB of HTML.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from harness.artifacts import digest_file
from harness.criteria.metrics import break_down
from harness.report.figures import draw_figures
from harness.report.pages import panel_page, render_markdown
from harness.verdict.contents import parse_verdict
from harness.verdict.verdict import read_verdict

SAMPLE = Path(__file__).parents[1] / "docs" / "samples" / "pass" / "verdict.json"
N_ROWS = 210_000
N_LINEAGES, ROWS_OF_A_GENOME = 300, 40


def main() -> None:
    """Render once and print what it took."""
    n_rows = int(sys.argv[1]) if len(sys.argv) > 1 else N_ROWS
    content = {**read_verdict(SAMPLE).content}
    table = invent_predictions(n_rows)
    content["breakdowns"] = {by: break_down(table, by) for by in ("lineage", "length", "genome")}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "predictions.parquet"
        table.to_parquet(path)
        entry = {"path": str(path), "sha256": digest_file(path)}
        content["artifacts"]["predictions"] = entry
        verdict = parse_verdict(content, origin=str(SAMPLE))
        started = time.perf_counter()
        figures = draw_figures(verdict, Path(name) / "figures")
        markdown = render_markdown(verdict, figures, folder=Path(name))
        page = panel_page(verdict, figures)
        elapsed_seconds = time.perf_counter() - started
    sys.stdout.write(
        f"{n_rows:,} rows, {len(figures)} figures: {elapsed_seconds:.1f} s, "
        f"markdown {len(markdown.encode()) / 1e6:.2f} MB, HTML {len(page.encode()) / 1e6:.2f} MB\n"
    )


def invent_predictions(n_rows: int) -> pd.DataFrame:
    """Return scores of two models that mostly agree, with lineages and genomes."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, n_rows)
    row = np.arange(n_rows)
    scores = {
        f"{side}_score": 1 / (1 + np.exp(-(2 * label - 1) * 2 - rng.normal(0, 1.4, n_rows)))
        for side in ("baseline", "candidate")
    }
    return pd.DataFrame(
        {
            "id": [f"NC_{number:06d}.1_chunk_1F1" for number in row],
            "label": label.astype("int8"),
            **scores,
            "lineage": [f"Lineage {number}" for number in rng.integers(0, N_LINEAGES, n_rows)],
            "genome": [f"NC_{number:06d}.1" for number in row // ROWS_OF_A_GENOME],
            "length": rng.integers(300, 501, n_rows),
        }
    )


if __name__ == "__main__":
    main()
