"""The criterion of docs/criteria.md, as another package that is installed."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "criteria.md"


def write_class_balance(folder: Path) -> None:
    """Write the page's module, and what an installer makes of the page's entry point."""
    text = PAGE.read_text(encoding="utf-8")
    module, entry = (
        re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)[0]
        for language in ("python", "toml")
    )
    (folder / "class_balance.py").write_text(module)
    installed = folder / "class_balance-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: class-balance\nVersion: 1.0")
    name, _, value = entry.splitlines()[1].partition(" = ")
    (installed / "entry_points.txt").write_text(f"[harness.criteria]\n{name} = {value[1:-1]}\n")
