"""The last stages of a gate run: the scores of the test rows, of both sides, joined by record id.

Each stage is computed when it is first asked for and kept as an immutable artifact, so that a
second run reuses what is unchanged. A side may bring a head, predictions or bare metrics instead:
these are read here, and what must be said about them is said here; a row that is missing, doubled
or unreadable is an error that names some. What the results mean is judged elsewhere.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from harness.artifacts import Artifact, digest_file, require_unchanged, write_atomically
from harness.config import GateConfig
from harness.criteria.metrics import tell_novelty
from harness.data.inputs import open_input, open_text, read_parquet, refuse_repeated
from harness.data.virnucpro import RESULTS_ENDING, read_results
from harness.documents import parse_json, read_text
from harness.embedding.devices import Ranks
from harness.errors import ArtifactError, DataError, MissingInput
from harness.pipeline.cache import StageCache, once
from harness.pipeline.deployed import WINDOWS, Deployed, score_windows
from harness.pipeline.heads import HEAD_FILE, Heads, feature_rows
from harness.pipeline.samples import Brought, Samples
from harness.pipeline.vectors import SIDES, Arm, Side, Vectors
from harness.progress import Progress
from harness.training import load_head
from harness.training.foreign import load_virnucpro
from harness.training.head import Head

__all__ = [
    "Pipeline",
    "join_predictions",
    "name_some",
    "read_metrics",
    "read_predictions",
    "warn_of_brought",
]


# In which direction a head that has seen the test rows moves the drop.
_CONSEQUENCES: dict[Side, str] = {
    "baseline": "its accuracy, and with it the drop, would then be too large",
    "candidate": "its accuracy would then be too large, and the drop too small",
}


def require_brought(path: Path) -> Path:
    """Return the path of a file that the settings name.

    Raises
    ------
    MissingInput
        If it is not there.
    """
    if not path.is_file():
        raise MissingInput(
            f"{path}: no such file", remedy="Put it there, or correct the path in gate.toml"
        )
    return path


def load_brought_head(path: Path, *, n_features: int) -> Head:
    """Read a head that was trained elsewhere: one of this project's, or of VirNucPro's own.

    Parameters
    ----------
    path : Path
        A ``.safetensors`` checkpoint of this project; anything else is read as VirNucPro's
        ``.pth``, in either form.
    n_features : int
        The width of the features that it is to judge.

    Raises
    ------
    DataError, CheckpointError
        If it cannot be read, holds no head, or one of another width.
    """
    read = load_head if path.suffix == ".safetensors" else load_virnucpro
    return read(path, n_features=n_features)


def brought_files(config: GateConfig) -> dict[str, Path]:
    """Return the files that the sides bring, by their names among the artifacts."""
    return {
        f"{side} {kind}": path
        for side in SIDES
        for kind in ("checkpoint", "predictions", "metrics")
        if (path := getattr(getattr(config, side), kind)) is not None
    }


def warn_of_brought(config: GateConfig, *, sides: Iterable[Side] = SIDES) -> tuple[str, ...]:
    """Say which heads were trained elsewhere, and what follows if they have seen the test rows."""
    settings = {side: getattr(config, side) for side in sides}
    brought = {side: own.predictions or own.checkpoint for side, own in settings.items()}
    return tuple(
        f"The {side}'s head was not trained here ({path.name}): it may have seen the test rows; "
        f"{_CONSEQUENCES[side]}"
        for side, path in brought.items()
        if path is not None
    )


_SHOWN_IDS = 5
_REPORTED = ("precision", "recall", "f1", "roc_auc", "average_precision", "mcc", "brier")


def read_predictions(path: Path) -> pd.DataFrame:
    """Read the scores of one side.

    Parameters
    ----------
    path : Path
        CSV (``.csv``, ``.csv.gz``) or Parquet (``.parquet``) with the columns ``id`` and ``score``,
        the viral class's probability; other columns are ignored. Or VirNucPro's
        ``prediction_results.txt``.

    Returns
    -------
    DataFrame
        ``id`` (str, unique) and ``score`` (float64, from 0 to 1), in the file's order.

    Raises
    ------
    MissingInput
        If there is no such file.
    DataError
        If it cannot be read, lacks a column, holds an id twice or not at all, or a score that is
        not a number from 0 to 1.
    """
    table = _read_table(path)
    missing = [name for name in ("id", "score") if name not in table]
    if missing:
        raise DataError(
            f"{path}: column {missing[0]!r} is missing; expected id and score, "
            f"has {', '.join(map(str, table.columns))}"
        )
    ids = table["id"].astype("str")
    scores = pd.to_numeric(table["score"], errors="coerce").astype("float64")
    nameless = table["id"].isna() | (ids == "")
    if nameless.any():
        first = int(nameless.argmax()) + 1
        raise DataError(f"{path}: {nameless.sum()} rows have no id; the first is row {first}")
    _refuse(path, ids, ids.duplicated(), "occur twice")
    _refuse(path, ids, ~scores.between(0, 1), "have a score that is no probability from 0 to 1")
    return pd.DataFrame({"id": ids, "score": scores})


def read_metrics(path: Path) -> tuple[Fraction, int]:
    """Read bare metrics, such as ``{"accuracy": 0.9048, "n": 210000}``.

    Parameters
    ----------
    path : Path
        JSON object with ``accuracy`` (share right) and ``n`` (rows), and optionally ``precision``,
        ``recall``, ``f1``, ``roc_auc``, ``average_precision``, ``mcc``, ``brier``.

    Returns
    -------
    Fraction, int
        The share right, exactly as reported, and the rows that it was measured on.

    Raises
    ------
    MissingInput
        If there is no such file.
    DataError
        If it is no such object.
    """
    require_brought(path)
    try:
        content = parse_json(read_text(path), is_exact=True)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    known = ("accuracy", "n", *_REPORTED)
    if not isinstance(content, dict) or not {"accuracy", "n"} <= set(content) <= set(known):
        raise DataError(
            f"{path}: expected an object with accuracy and n; known: {', '.join(known)}"
        )
    accuracy, n_rows = content["accuracy"], content["n"]
    if type(n_rows) is not int or n_rows < 1:
        raise DataError(f"{path}: n is {n_rows!s}; expected the number of rows, at least 1")
    numbers = {name: value for name, value in content.items() if name != "n"}
    for name, value in numbers.items():
        lowest = -1 if name == "mcc" else 0
        if type(value) not in (int, Fraction) or not lowest <= value <= 1:
            shown = float(value) if isinstance(value, Fraction) else value
            raise DataError(f"{path}: {name} is {shown!s}; expected a number from {lowest} to 1")
    return Fraction(accuracy), n_rows


def join_predictions(
    test_rows: pd.DataFrame,
    baseline: pd.DataFrame,
    candidate: pd.DataFrame,
    placebo: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Put the scores of both sides, and of the placebo where there is one, beside the test rows.

    Parameters
    ----------
    test_rows : DataFrame
        ``id`` (unique), ``label`` and whatever else is to be kept, such as ``lineage``, ``genome``,
        ``length``.
    baseline, candidate, placebo : DataFrame
        ``id`` and ``score``, with exactly the ids of the test rows, in any order; further columns,
        such as ``score_43``, are those of other seeds.

    Returns
    -------
    DataFrame
        The test rows, in their order, with ``baseline_score`` and ``candidate_score``, and
        ``baseline_score_43`` and so on where there are other seeds.

    Raises
    ------
    DataError
        If a side has other ids than the test rows; some are listed.
    """
    joined = test_rows.reset_index(drop=True)
    arms = {"baseline": baseline, "candidate": candidate}
    for side, scores in (arms if placebo is None else arms | {"placebo": placebo}).items():
        _require_same_ids(side, joined["id"], scores["id"])
        by_id = scores.set_index("id").reindex(joined["id"])
        for name in by_id:
            joined[f"{side}_{name}"] = by_id[name].to_numpy(dtype="float64")
    return joined


def _read_table(path: Path) -> pd.DataFrame:
    require_brought(path)
    try:
        if path.suffix == ".parquet":
            table: pd.DataFrame = read_parquet(path).to_pandas()
            return table
        if path.name.endswith((".csv", ".csv.gz")):
            return _read_csv(path)
        if path.suffix == RESULTS_ENDING:
            return read_results(path)
    except (OSError, ValueError) as error:  # pandas' and Arrow's too
        raise DataError(f"{path}: cannot be read: {error}") from error
    raise DataError(f"{path}: expected a file named .csv, .csv.gz, .parquet or .txt")


def _read_csv(path: Path) -> pd.DataFrame:
    with open_text(path) as (text, _):
        header = next(csv.reader([text.readline()]), [])
        refuse_repeated(path, header)
    with open_input(path) as (stream, _):
        return pd.read_csv(stream, dtype="str", keep_default_na=False)


def _refuse(path: Path, ids: pd.Series[str], is_bad: pd.Series[bool], problem: str) -> None:
    if is_bad.any():
        raise DataError(f"{path}: {is_bad.sum()} ids {problem}: {name_some(ids[is_bad].tolist())}")


def _require_same_ids(side: str, expected: pd.Series[str], found: pd.Series[str]) -> None:
    if found.duplicated().any():
        doubled = found[found.duplicated()].tolist()
        raise DataError(f"{side}: {len(doubled)} ids occur twice: {name_some(doubled)}")
    absent = expected[~expected.isin(found)].tolist()
    foreign = found[~found.isin(expected)].tolist()
    if absent or foreign:
        raise DataError(
            f"{side}: expected predictions of exactly the {len(expected)} test rows; "
            f"{len(absent)} are missing ({name_some(absent)}), "
            f"{len(foreign)} are of other rows ({name_some(foreign)}). "
            "Predict the rows of this split's test set, all of them and no others"
        )


def name_some(ids: Sequence[str]) -> str:
    """Return the first few of some ids, and how many more there are."""
    if not ids:
        return "none"
    rest = len(ids) - _SHOWN_IDS
    return ", ".join(ids[:_SHOWN_IDS]) + (f" and {rest} more" if rest > 0 else "")


T = TypeVar("T")
PREDICTIONS = "predictions.parquet"


class Pipeline:
    """The stages of one run.

    Parameters
    ----------
    config : GateConfig
        What to compare, and how.
    work_dir : Path
        Where artifacts are kept; several runs may share it.
    progress : Progress, optional
        Shows how far the stages are.
    ranks : Ranks, optional
        The processes that go through the stages together.

    Attributes
    ----------
    cache : StageCache
        What has been made so far.
    samples : Samples
        The records and their split.
    vectors : Vectors
        Their embeddings.
    heads : Heads
        The heads of both sides.
    """

    def __init__(
        self,
        config: GateConfig,
        work_dir: Path,
        *,
        progress: Progress | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.config, self.cache = config, StageCache(work_dir, ranks)
        progress = progress or Progress()
        self._config_file = _keep_config(config, self.cache)
        brought = Brought(config, self.cache, progress)
        self.samples = Samples(config, brought, self.cache, progress)
        self.vectors = Vectors(
            config, self._config_file.path, self.samples, brought, self.cache, progress
        )
        self.heads = Heads(config, self.samples, self.vectors, self.cache, progress)

    def trainings(self) -> dict[Side, dict[str, Any]]:
        """Return how the heads were trained that this run has so far; trains none."""
        return {side: self.heads.training(side) for side in SIDES if self.heads.head.made(side)}

    def scores(self, arm: Arm) -> pd.DataFrame:
        """Return an arm's scores of the test records: id, score (probability of viral).

        Where its heads are trained here, the other seeds' scores stand beside: score_43 and so on.
        """
        table = self.scored(arm)
        return table[table["id"].isin(self.samples.split().test)].reset_index(drop=True)

    @once
    def deployed(self) -> Deployed:
        """Return the test windows with the scores of both sides, and what must be said of them."""
        return score_windows(self)

    @once
    def reported_metrics(self) -> tuple[Fraction, int] | None:
        """Return the metrics that the baseline brings in place of predictions, if it does."""
        path = self.config.baseline.metrics
        return None if path is None else self._read_brought(path, read_metrics)

    @once
    def predictions(self) -> pd.DataFrame:
        """Return the test records with the scores of both sides, joined by id.

        Columns: id, label, lineage, genome, length (bases), novelty, baseline_score,
        candidate_score, the scores of other seeds (baseline_score_43 and so on); placebo_score,
        where the nucleotides can be told apart; and, where MMseqs2 is there, identity (percent; 0
        without a hit, NaN where not measured).
        """
        return self._joined()[0]

    def files(self) -> dict[str, dict[str, str]]:
        """Return path and sha256 of the files to deploy and to read, as far as they are there.

        The sha256 is that of what was judged, whatever has become of the file since.
        """
        head = self.heads.head.made("candidate")
        deployed = self.deployed.made()
        results = _result_files(deployed.artifact) if deployed and deployed.artifact else {}
        made = results | {
            "checkpoint": _file(head, HEAD_FILE) if head else None,
            "predictions": joined[1] if (joined := self._joined.made()) else None,
            "config": self._config_file,
        }
        brought = {
            name: _File(path=path, sha256=self._brought_sha256(path))
            for name, path in brought_files(self.config).items()
            if path.is_file()
        }
        return {
            name: {"path": str(file.path), "sha256": file.sha256}
            for name, file in (made | brought).items()
            if file is not None
        }

    @once
    def scored(self, arm: Arm) -> pd.DataFrame:
        """Return an arm's scores, those that it brings or those of its heads: id, score.

        Of the test records, and of the test windows' other open frames as far as it has them.
        """
        own = self._brought_file(arm, "predictions")
        if own is not None:
            table = self._read_brought(own, read_predictions)
            if own.suffix != RESULTS_ENDING:
                return table
            return table[table["id"].isin(self._ids_to_score())]  # VirNucPro predicts genomes whole
        return self._predict(arm)

    def _brought_file(self, arm: Arm, kind: str) -> Path | None:
        """Return a file that a side brings in place of training; the placebo brings none."""
        return None if arm == "placebo" else getattr(getattr(self.config, arm), kind)

    def _ids_to_score(self) -> pd.Series[str]:
        """Return the test records, and the other open frames of their windows."""
        test, frames = self.samples.split().test, self.samples.windows().frames["id"]
        return pd.concat([test, frames[~frames.isin(test)]], ignore_index=True)

    def _predict(self, arm: Arm) -> pd.DataFrame:
        """Return the scores that an arm's heads give now: kept ones may be anybody's."""
        brought = self._brought_file(arm, "checkpoint")
        if brought is None:
            trained = self.heads.head(arm)
            heads = {seed: self._seed_head(trained, seed) for seed in self.heads.seeds}
        ids = self._ids_to_score()
        for store in self.vectors.feature_stores(arm):  # one that is brought may lack frames
            ids = ids[ids.isin(store.ids) | ids.isin(self.samples.split().test)]
        features = feature_rows(self.vectors, arm, ids)
        if brought is not None:
            load = partial(load_brought_head, n_features=features.shape[1])
            heads = {self.config.seed: self._read_brought(brought, load)}
        with self.cache.log.stage(f"predict {arm}"):
            scores = {
                "score" if seed == self.config.seed else f"score_{seed}": head.predict(features)
                for seed, head in heads.items()
            }
        return pd.DataFrame({"id": ids, **scores})

    def _seed_head(self, trained: Artifact, seed: int) -> Head:
        file = self.heads.head_file(seed)
        head = load_head(trained.file(file))
        require_unchanged(trained.file(file), trained.files[file])
        return head

    @once
    def _joined(self) -> tuple[pd.DataFrame, _File]:
        """Return the table that accuracy is judged by, and the file of it that is kept."""
        identity, test = self.samples.identity(), self.samples.part("test")
        rows = test[["id", "label", "lineage", "genome"]].assign(
            length=test["nucleotides"].str.len(),
            novelty=tell_novelty(test["lineage"], self.samples.training_lineages()),
        )
        others = self.samples.windows().frames["id"]
        others = others[~others.isin(test["id"])]
        scored = (self.scored(side) for side in SIDES)
        baseline, candidate = (each[~each["id"].isin(others)] for each in scored)
        table = join_predictions(rows, baseline, candidate, self._placebo())
        if identity.is_measured:
            percent = 100 * identity.rows.set_index("id")["identity"].fillna(0)
            table["identity"] = percent.reindex(table["id"]).to_numpy()
        hashes = pd.util.hash_pandas_object(table, index=False).to_numpy()
        inputs = {
            "rows": hashlib.sha256(hashes.tobytes()).hexdigest(),
            "identity": identity.version,
            "records": self.samples.stored().sha256,
            "split": self.samples.drawn().sha256,
        }
        made = self.cache.obtain(
            "predictions", inputs, lambda folder: table.to_parquet(folder / PREDICTIONS)
        )
        if made.is_reused and not pd.read_parquet(made.file(PREDICTIONS)).equals(table):
            raise ArtifactError(
                f"{made.file(PREDICTIONS)}: holds other rows than were computed just now. "
                f"Delete {made.path} and run again"
            )
        return table, _file(made, PREDICTIONS)

    def _placebo(self) -> pd.DataFrame | None:
        """Return the placebo's scores, or None if there can be none: assay-sensitivity says why."""
        try:
            return self.scores("placebo")
        except MissingInput:
            return None

    @once
    def _brought_sha256(self, path: Path) -> str:
        """Return the sha256 of a file that a side brings, as it was when this run first saw it."""
        return digest_file(path)

    def _read_brought(self, path: Path, read: Callable[[Path], T]) -> T:
        """Return what a file that a side brings holds; ArtifactError if it is another by now."""
        sha256 = self._brought_sha256(require_brought(path))
        content = read(path)
        require_unchanged(path, sha256)
        return content


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A file of this run, and its sha256 when it was written or first read."""

    path: Path
    sha256: str


def _result_files(artifact: Artifact) -> dict[str, _File | None]:
    return {name: _file(artifact, name) for name in artifact.files if name != WINDOWS}


def _file(artifact: Artifact, name: str) -> _File:
    return _File(path=artifact.file(name), sha256=artifact.files[name])


def _keep_config(config: GateConfig, cache: StageCache) -> _File:
    settings = config.to_dict()
    text = json.dumps(settings, indent=1)
    made = cache.obtain(
        "config", settings, lambda folder: write_atomically(folder / "config.json", text)
    )
    return _file(made, "config.json")
