"""The figure of the seeds: each pair of heads on the test rows, its drop and the bound on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.figures.style import COLOURS, Source, can_be_drawn, legend_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_seeds"]

_NEEDED = ("drop_points", "lower_bound_points", "upper_bound_points")


def draw_seeds(source: Source, figure: Figure) -> str | None:
    """Draw the accuracy drop of each seed's pair of heads; None where there is one only."""
    seeds = source.verdict.evidence("accuracy-drop").get("seeds", [])
    if len(seeds) < 2 or not all(can_be_drawn(one[key]) for one in seeds for key in _NEEDED):
        return None
    figure.set_size_inches(4.6, 1.3 + 0.3 * len(seeds))
    axes = figure.subplots()
    for place, one in enumerate(seeds):
        drop, lower, upper = (one[key] for key in _NEEDED)
        axes.plot([lower, upper], [place, place], color=COLOURS["candidate"], linewidth=1.2)
        axes.plot([drop], [place], "o", color=COLOURS["candidate"], markersize=5)
    axes.axvline(0, color=COLOURS["guide"], linewidth=1)
    if (limit := source.limit("accuracy-drop")) is not None:
        axes.axvline(limit, color=COLOURS["limit"], linestyle="--", label=f"limit: {limit:g}")
        legend_below(figure)
    names = [f"seed {one['seed']}" for one in seeds]
    axes.set_yticks(range(len(seeds)), [f"{names[0]} (ships)", *names[1:]])
    axes.set(ylim=(len(seeds) - 0.5, -0.5))
    axes.set_xlabel("Drop (points, right is worse), with its one-sided 95% bounds")
    told = (f"{one['drop_points']:.2f} (at most {one['upper_bound_points']:.2f})" for one in seeds)
    return f"Accuracy drop in points for {len(seeds)} seeds, the first ships: {', '.join(told)}."
