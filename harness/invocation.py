"""What a pytest command line asks of the gate, and what the acceptance tests are told of it.

Where work/, reports/ and gate.toml lie unless an option says otherwise is decided here, for pytest
and for the command ``harness`` alike. Plain values in, plain values out; pytest itself is the
plugin's matter.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.progress import Progress

__all__ = ["GateSession", "Invocation", "Provider", "find_root"]

# These show something and run nothing, so they touch no report.
INSPECTIONS = (
    "help",
    "version",
    "markers",
    "collectonly",
    "showfixtures",
    "show_fixtures_per_test",
    "cacheshow",
)
# What pytest-benchmark is set to if nobody chooses, and the clock that waits for the device.
DEFAULT_TIMER, DEVICE_TIMER = "time.perf_counter", "harness.criteria.speed.read_clock"
TIMERS = (None, DEFAULT_TIMER, DEVICE_TIMER)  # None: pytest-benchmark is switched off

Provider = Callable[[], dict[str, Any]]


def find_root(directory: Path) -> Path:
    """Return where work/, reports/ and gate.toml lie for whoever calls from a directory.

    Parameters
    ----------
    directory : Path
        An absolute path.

    Returns
    -------
    Path
        The nearest folder with a ``pytest.ini``, from the directory upwards; without one, itself.
    """
    folders = (directory, *directory.parents)
    return next((folder for folder in folders if (folder / "pytest.ini").is_file()), directory)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSession:
    """What the acceptance tests' fixtures need to know of the run.

    Attributes
    ----------
    profile : str
        ``tiny`` or ``production``.
    config_path : Path
        The production profile's settings.
    work_dir : Path
        Where cached artifacts live.
    report_dir : Path
        Where this run's reports go.
    progress : Progress
        Shows how far the stages are, past pytest's capture.
    """

    profile: str
    config_path: Path
    work_dir: Path
    report_dir: Path
    progress: Progress
    providers: list[Provider] = field(default_factory=list, repr=False)

    def describe(self, provider: Provider) -> None:
        """Register what is asked, once and at the end, for facts to put into the verdict."""
        self.providers.append(provider)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One call of pytest.

    Attributes
    ----------
    root : Path
        pytest's root directory, in which acceptance/ lies.
    directory : Path
        Where pytest was called.
    options : Namespace
        Its options, by pytest's own names.
    """

    root: Path
    directory: Path
    options: argparse.Namespace

    @property
    def is_inspection(self) -> bool:
        """Whether it only shows something."""
        return any(getattr(self.options, name, None) for name in INSPECTIONS)

    @property
    def profile(self) -> str:
        """The profile that ``-m`` asks for; the tests that are selected have the last word."""
        asks_for_gpu = re.search(r"(?<!not )\bgpu\b", self.options.markexpr)
        return "production" if asks_for_gpu else "tiny"

    @property
    def report_dir(self) -> Path:
        """Where this run's reports go."""
        return self._path("report_dir", "reports")

    @property
    def config_path(self) -> Path:
        """The production profile's settings."""
        return self._path("gate_config", "gate.toml")

    @property
    def work_dir(self) -> Path:
        """Where cached artifacts live."""
        return self._path("work_dir", "work")

    def split(self, arguments: Iterable[str]) -> tuple[list[str], list[str]]:
        """Return the path arguments (node ids, too) inside acceptance/ and those outside."""
        acceptance = (self.root / "acceptance").resolve()
        inside: list[str] = []
        outside: list[str] = []
        for argument in arguments:
            path = self.directory / argument.partition("::")[0]
            is_inside = path.resolve().is_relative_to(acceptance)
            (inside if is_inside else outside).append(argument)
        return inside, outside

    def find_refused(self, *, reruns_setting: str) -> str | None:
        """Return the option that would split the run, repeat tests, or not measure the time.

        Parameters
        ----------
        reruns_setting : str
            pytest-rerunfailures' ``reruns`` from the configuration file.
        """
        is_distributed = self._value("dist") not in (None, "no")
        reruns = self._value("reruns") or self._value("force_reruns")
        measures = self._value("benchmark_enable") or not self._value("benchmark_disable")
        refused = {
            "-n (xdist)": is_distributed,
            "--reruns": reruns or reruns_setting not in ("", "0"),
            "--benchmark-disable": not measures,
            "--benchmark-timer": self._value("benchmark_timer") not in TIMERS,
        }
        return next((name for name, is_given in refused.items() if is_given), None)

    def default_reports(self) -> dict[str, Any]:
        """Return the options of other plugins that the user left open, set to the gate's paths.

        A plugin that is switched off has no option, and gets none.
        """
        folder = self.report_dir
        defaults = {
            "htmlpath": str(folder / "report.html"),
            "xmlpath": str(folder / "junit.xml"),
            "benchmark_json": folder / "benchmark.json",
        }
        chosen: dict[str, Any] = {
            name: path
            for name, path in defaults.items()
            if hasattr(self.options, name) and self._value(name) is None
        }
        if "htmlpath" in chosen:
            chosen["self_contained_html"] = True
        if self._value("benchmark_timer") == DEFAULT_TIMER:
            chosen["benchmark_timer"] = DEVICE_TIMER
        return chosen

    def _value(self, name: str) -> Any:
        return getattr(self.options, name, None)

    def _path(self, name: str, default: str) -> Path:
        """Return a path: if given, relative to where pytest was called; by default, to the root."""
        given = self._value(name)
        if given is None:
            return find_root(self.directory) / default
        return self.directory / Path(given).expanduser()
