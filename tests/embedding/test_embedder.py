"""The seam: embedders found by their kind, the page that shows one, and what is refused."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.config import ModelConfig, from_table
from harness.embedding import Facts, KmerProfile, load_embedder
from harness.embedding.embedder import ENTRY_POINTS, Abilities, Counts, describe_model
from harness.errors import ConfigError, MissingInput

PAGE = (Path(__file__).parents[2] / "docs" / "embedders.md").read_text(encoding="utf-8")
Install = Callable[..., None]


def blocks(language: str) -> list[str]:
    """Return the page's code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return what installs a module and its entry points, as pip would."""

    def put(module: str, code: str, entries: dict[str, str]) -> None:
        (tmp_path / f"{module}.py").write_text(code)
        lines = [f"[{ENTRY_POINTS}]", *(f"{name} = {value}" for name, value in entries.items())]
        information = tmp_path / f"{module}-1.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1")
        (information / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(tmp_path)

    return put


def test_page_when_its_embedder_is_installed_then_its_settings_load_it(install: Install) -> None:
    """One file and one entry: what the page shows is run here as it stands."""
    (code,) = blocks("python")
    _, project, settings = map(tomllib.loads, blocks("toml"))
    install("composition", code, project["project"]["entry-points"][ENTRY_POINTS])
    table = settings["candidate"]
    side: ModelConfig = from_table(ModelConfig, table, where="candidate", folder=Path())

    embedder = load_embedder(str(side.model), kind=side.kind, dtype=side.dtype)

    vectors = embedder.embed(["AACW", "DDDD"])
    assert (vectors.shape, vectors.dtype) == ((2, 20), np.float32)
    assert vectors[:, :3].tolist() == [[0.5, 0.25, 0], [0, 0, 1]]
    assert embedder.facts == Facts(engine="numpy")
    assert (
        describe_model(str(side.model), kind=side.kind) == f"{side.model}, embedded by composition"
    )


def test_page_then_every_ability_that_is_asked_for_is_listed() -> None:
    """And nothing else."""
    asked = {name for name in vars(Abilities) if not name.startswith("_")}
    listed = {name for row in PAGE.splitlines() for name in re.findall(r"^\| `(\w+)\b", row)}

    assert asked - {"peak_flops"} == listed - {"kind", "esm", "transformers", "describe"}


def test_abilities_when_an_embedder_has_none_then_nothing_is_known() -> None:
    """No ability is needed."""
    without = Abilities(KmerProfile(2))

    assert (without.token_budget, without.n_out_of_memory, without.flop([4])) == (None, 0, 0.0)
    assert without.count(["ACGT"]) == Counts()
    assert without.gpu_memory_bytes() is without.peak_flops() is without.tokenise is None


def test_load_when_the_kind_is_unknown_then_the_known_ones_are_listed() -> None:
    """The project's own at least."""
    with pytest.raises(ConfigError, match=r"expected one of .*esm, .*transformers.*got 'prott5'"):
        load_embedder("model", kind="prott5")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import absent", "cannot be imported .*absent"),
        ("", "cannot be imported .*no attribute 'make'"),
        ("make = lambda *_, **__: 1", "made int, which has no name, dim, digest, facts"),
        (
            "class make:\n name = dim = digest = facts = 1\n def __init__(self, *_, **__): pass",
            "made make, which has no embed",
        ),
        (
            "class make:\n name = dim = digest = facts = embed = print\n dtype = 'float64'\n"
            " def __init__(self, *_, **__): pass",
            "computes in 'float64'; asked for was 'float32'",
        ),
    ],
)
def test_load_when_an_entry_point_makes_no_embedder_then_what_lacks_is_named(
    code: str, message: str, install: Install, request: pytest.FixtureRequest
) -> None:
    """Found out before anything is embedded."""
    module = f"broken_{abs(hash(request.node.name))}"
    install(module, code, {"broken": f"{module}:make"})

    with pytest.raises(ConfigError, match=message):
        load_embedder("model", kind="broken")


def test_load_when_a_package_calls_its_own_esm_then_it_is_passed_over(install: Install) -> None:
    """The project's own kinds mean the same everywhere."""
    install("usurper", "raise SystemExit", {"esm": "usurper:make"})

    with pytest.raises(MissingInput, match="No folder 'nowhere'"):
        load_embedder("nowhere")
