"""A finished run and copies of it, for faults to be planted in.

The stages and criteria of a copy are those of any run; what it writes goes to a scratch folder, so
that nothing of a copy ever stands in the work directory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.artifacts import Artifact
from harness.config import GateConfig, Thresholds
from harness.data import Split
from harness.embedding import Embedder
from harness.pipeline.judge import Judge
from harness.pipeline.stages import Pipeline
from harness.pipeline.vectors import SIDES, Side

__all__ = ["Bench"]

Scores = npt.NDArray[np.float64]


class Bench:
    """A finished run, and copies of it that faults are planted in.

    Parameters
    ----------
    honest : Pipeline
        The run; stages that it lacks are computed.
    scratch : Path
        Takes what the copies write.
    clock : callable
        Returns seconds; what a real measurement is timed with.

    Attributes
    ----------
    config : GateConfig
        Of the run, with a deployment's limits: each fault has a known outcome under these.
    """

    def __init__(self, honest: Pipeline, scratch: Path, clock: Callable[[], float]) -> None:
        self.honest = honest
        self.clock = clock
        self.config = replace(honest.config, thresholds=Thresholds())
        self.predictions = honest.predictions()
        self._scratch = scratch

    def rng(self) -> np.random.Generator:
        """Return a generator that is the same for every fault."""
        return np.random.default_rng(self.config.seed)

    def copy(
        self,
        *,
        config: GateConfig | None = None,
        made: Mapping[str, Any] | None = None,
        artifacts: Mapping[str, Artifact] | None = None,
    ) -> Judge:
        """Return the criteria of a copy of the run.

        Parameters
        ----------
        config : GateConfig, optional
            Settings in place of the run's.
        made, artifacts : mapping, optional
            What the copy takes for made, besides records, split and identities: by cache name.
        """
        honest, folder = self.honest, Path(tempfile.mkdtemp(dir=self._scratch))
        copied = Pipeline(config or self.config, folder)
        names = ("records", "split")
        copied.cache.artifacts.update({name: honest.cache.artifacts[name] for name in names})
        copied.cache.artifacts.update(artifacts or {})
        tables = {
            "records": honest.samples.records(),
            "split": honest.cache.made("split"),
            "identity": honest.samples.identity(),
        }
        for name, value in (tables | dict(made or {})).items():
            copied.cache.once(name, lambda value=value: value)  # type: ignore[misc] # bound here
        return Judge(copied)

    def with_predictions(self, baseline: pd.DataFrame, candidate: pd.DataFrame) -> Judge:
        """Return the criteria of a copy whose sides bring files of predictions (id, score)."""
        config, folder = self.config, Path(tempfile.mkdtemp(dir=self._scratch))
        for side, table in zip(SIDES, (baseline, candidate), strict=True):
            table.to_parquet(folder / f"{side}.parquet")
            settings = getattr(config, side)
            brought = replace(
                settings, predictions=folder / f"{side}.parquet", metrics=None, checkpoint=None
            )
            config = replace(config, **{side: brought})
        return self.copy(config=config)

    def scores(self, side: Side, scores: Scores | None = None) -> pd.DataFrame:
        """Return id and score of the test rows: a side's own scores, or others."""
        own = self.predictions[f"{side}_score"].to_numpy()
        return pd.DataFrame(
            {"id": self.predictions["id"], "score": own if scores is None else scores}
        )

    def with_split(self, split: Split) -> Judge:
        """Return the criteria of a copy that has drawn another split."""
        drawn = replace(self.honest.cache.made("split"), split=split)
        return self.copy(made={"split": drawn})

    def with_embedders(self, embedders: Mapping[Side, Embedder]) -> Judge:
        """Return the criteria of a copy with other embedders; each side keeps its own store."""
        honest = self.honest
        stores: dict[str, Any] = {
            f"store {side}": honest.vectors.embeddings(side) for side in SIDES
        }
        stores["store nucleotide"] = honest.vectors.nucleotide_embeddings()
        names = ("embeddings baseline", "embeddings candidate", "embeddings nucleotide")
        return self.copy(
            made=stores | {f"embedder {side}": x for side, x in embedders.items()},
            artifacts={name: honest.cache.artifacts[name] for name in names},
        )
