"""Make the sample reports in this folder: three runs on the embedded data, with tiny models.

`make samples` calls it from a checkout. The runs are real; afterwards the checkout's own path, the
kernel's version and links to elsewhere are taken out of their reports, which name no host to begin
with. A fourth sample is of a real model, which takes a network:

    make real && .venv/bin/python docs/samples/make.py reports    # kept as docs/samples/real
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.verdict.contents import parse_verdict
from harness.verdict.verdict import read_verdict, write_verdict

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RUNS = Path("work/samples")  # relative, as in the commands that the reports show

# Each sample's options and work directory. FAIL comes first, so that PASS has a trend to show.
SAMPLES = {
    "fail": (["-m", "gpu", "--gate-config", "docs/samples/fail.toml"], "shared"),
    "pass": ([], "shared"),
    "inconclusive": (["-m", "gpu", "--gate-config", "docs/samples/inconclusive.toml"], "own"),
}
# The one state besides PASS that a sample's criteria may have.
STATES = {"fail": "FAIL", "pass": "PASS", "inconclusive": "INCONCLUSIVE"}
FILES = ("report.md", "report.html", "junit.xml", "benchmark.json")
LINK = re.compile(r'<a href="https?://[^"]*">(.*?)</a>', flags=re.DOTALL)
KERNEL = re.compile(r'-?\d+\.\d+\.\d+-[\w.-]+?(?=-x86_64|-aarch64|")')


def main(reports: Sequence[str]) -> None:
    """Make all samples anew, and put them in place only once all came out as meant.

    With the folder of the reports of ``make real``, keep those instead.
    """
    if reports:
        keep(Path(reports[0]).resolve(), HERE / "real", base=ROOT)
        return
    shutil.rmtree(ROOT / RUNS, ignore_errors=True)
    for name, (options, work) in SAMPLES.items():
        run_gate(name, options, work)
    for name in SAMPLES:
        keep(ROOT / RUNS / name, HERE / name, base=ROOT)


def run_gate(name: str, options: list[str], work: str) -> None:
    """Run the gate, and stop if it did not come out as the sample is to show."""
    places = ["--work-dir", str(RUNS / work), "--report-dir", str(RUNS / name)]
    command = [sys.executable, "-m", "pytest", "acceptance", *options, *places]
    hidden = ("GITHUB_STEP_SUMMARY", "PYTEST_ADDOPTS")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    subprocess.run(command, cwd=ROOT, env=environment, check=False)
    verdict = read_verdict(ROOT / RUNS / name / "verdict.json")
    states = {row.id: str(row.state) for row in verdict.criteria}
    others = set(states.values()) - {"PASS"} or {"PASS"}
    if others != {STATES[name]}:
        expected = f"expected {STATES[name]} besides PASS"
        raise SystemExit(f"{name}: {expected}, got {states}; run it again on an idle machine")


def keep(reports: Path, folder: Path, *, base: Path) -> None:
    """Copy a run's reports without what tells where they were made.

    Paths in them become relative to ``base``.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "figures").mkdir(parents=True)
    content = json.loads(neutral(read_verdict_text(reports), base))
    write_verdict(folder / "verdict.json", parse_verdict(content, origin=str(reports)))
    for name in FILES:
        (folder / name).write_text(neutral((reports / name).read_text("utf-8"), base), "utf-8")
    markdown = folder / "report.md"  # with the smaller of the two forms of each figure
    markdown.write_text(markdown.read_text("utf-8").replace(".svg>)", ".png>)"), "utf-8")
    for figure in (reports / "figures").glob("*.png"):
        shutil.copy(figure, folder / "figures")


def read_verdict_text(reports: Path) -> str:
    """Return a checked verdict as text; its digest is made anew once the paths are gone."""
    return json.dumps(read_verdict(reports / "verdict.json").content)


def neutral(text: str, base: Path) -> str:
    """Return text with paths relative to a base, without kernel version and links to elsewhere."""
    text = text.replace(f"{base}/", "").replace(str(Path(sys.prefix)), ".venv")
    return KERNEL.sub("", LINK.sub(r"\1", text))


if __name__ == "__main__":
    main(sys.argv[1:])
