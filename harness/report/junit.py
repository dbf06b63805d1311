"""The JUnit file for CI systems: pytest's, with the verdict added and the host's name removed.

The properties of each criterion are set by the plugin while the tests run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from harness.artifacts import write_atomically
from harness.report.content.reading import as_text, as_texts
from harness.report.escaping import visible

__all__ = ["complete_junit", "criterion_properties"]

_SUITE_PROPERTIES = ("verdict", "profile", "rehearsal", "halted_by")


def criterion_properties(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a criterion's test case tells: name and value; what is not known is left out.

    Parameters
    ----------
    row : mapping
        A criterion as ``verdict.json`` holds it.
    """
    texts = {"criterion": as_text(row.get("id"))}
    texts |= {key: as_text(row.get(key)) for key in ("state", "value", "limit", "unit")}
    texts["interval"] = " to ".join(as_texts(row.get("interval")))
    return [(name, visible(text)) for name, text in texts.items() if text]


def complete_junit(path: Path, verdict: Mapping[str, Any]) -> None:
    """Write the verdict into a JUnit file as properties of its suite, and forget the host.

    Parameters
    ----------
    path : Path
        What pytest wrote.
    verdict : mapping
        The verdict that ``verdict.json`` will hold; called again, it replaces the one before.
    """
    tree = ET.fromstring(path.read_bytes())  # noqa: S314 - pytest has just written it
    for suite in tree.iter("testsuite"):
        suite.attrib.pop("hostname", None)
        properties = suite.find("properties")
        if properties is None:
            properties = ET.Element("properties")
            suite.insert(0, properties)
        for former in [one for one in properties if one.get("name") in _SUITE_PROPERTIES]:
            properties.remove(former)
        for name, text in _suite_properties(verdict):
            ET.SubElement(properties, "property", name=name, value=text)
    content: bytes = ET.tostring(tree, encoding="utf-8", xml_declaration=True)
    write_atomically(path, content)


def _suite_properties(verdict: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    rehearsal = "false" if verdict.get("rehearsal") is False else "true"
    texts = (as_text(verdict.get("verdict")), as_text(verdict.get("profile")), rehearsal)
    reasons = "; ".join(map(visible, as_texts(verdict.get("halted_by"))))
    yield from zip(_SUITE_PROPERTIES, (*texts, reasons), strict=True)
