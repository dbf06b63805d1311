"""The stages of a gate run, cached, and the criteria computed from them.

Called by the commands and by the acceptance fixtures alike.
"""

from harness.pipeline.judge import Judge
from harness.pipeline.stages import Pipeline
from harness.pipeline.stopwatch import Stopwatch, compute_threads
from harness.pipeline.vectors import Side

__all__ = ["Judge", "Pipeline", "Side", "Stopwatch", "compute_threads"]
