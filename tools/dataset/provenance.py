"""The provenance of the embedded data set: what each file was made from, and how many records.

Describes and compares; makes no sequence itself.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from harness.data.windows import WINDOW_BASES
from tools.dataset.archives import ARCHIVES, Archive
from tools.dataset.draw import Candidate
from tools.dataset.files import pack
from tools.dataset.sources import SOURCES

__all__ = ["describe", "list_differences"]

# Other versions of these may find other genes or read other annotation.
_TOOLS = ("biopython", "pyrodigal")


def describe(
    contents: Mapping[str, bytes],
    members: Mapping[str, bytes],
    candidates: Sequence[Candidate],
    drawn: Sequence[Candidate],
    *,
    seed: int,
) -> dict[str, Any]:
    """Return the provenance as JSON values.

    Parameters
    ----------
    contents : mapping of str to bytes
        The files' content before compression.
    members : mapping of str to bytes
        What was read from the archives.
    candidates, drawn : sequence of Candidate
        The fragments to choose from, and those chosen.
    seed : int
        Of the draw.
    """
    return {
        "seed": seed,
        "window_bases": WINDOW_BASES,
        "tools": {name: version(name) for name in _TOOLS},
        "archives": [_describe_archive(archive, members) for archive in ARCHIVES],
        "counts": {
            "viral": _count(drawn, is_viral=True),
            "nonviral": _count(drawn, is_viral=False),
        },
        "sources": _describe_sources(candidates, drawn),
        "files": {name: _describe_file(name, content) for name, content in contents.items()},
    }


def list_differences(rebuilt: Mapping[str, Any], recorded: Mapping[str, Any]) -> list[str]:
    """Name the parts of two provenances that do not agree, but for how bytes are compressed."""
    return [
        f"provenance.json: {key!r} does not agree"
        for key in sorted(rebuilt.keys() | recorded.keys())
        if _essence(rebuilt.get(key)) != _essence(recorded.get(key))
    ]


def _essence(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _essence(item) for key, item in value.items() if not key.startswith("stored_")}
    return value


def _describe_archive(archive: Archive, members: Mapping[str, bytes]) -> dict[str, Any]:
    used = {source.member for source in SOURCES if source.package == archive.package}
    names = sorted(used | {archive.licence_member})
    return {
        "package": archive.package,
        "version": archive.version,
        "file": archive.file,
        "sha256": archive.sha256,
        "licence": archive.licence,
        "members": {name: _sha256(members[name]) for name in names},
    }


def _describe_sources(
    candidates: Iterable[Candidate], drawn: Iterable[Candidate]
) -> list[dict[str, Any]]:
    available = Counter(each.source for each in candidates)
    taken = Counter(each.source for each in drawn)
    return [
        {
            "genome": source.genome,
            "lineage": source.lineage,
            "source_kind": source.kind,
            "package": source.package,
            "member": source.member,
            "accessions": list(source.accessions),
            "genes": source.genes,
            "available": available[source],
            "records": taken[source],
        }
        for source in SOURCES
    ]


def _count(drawn: Iterable[Candidate], *, is_viral: bool) -> dict[str, Any]:
    sources = [each.source for each in drawn if each.source.is_viral is is_viral]
    return {
        "records": len(sources),
        "genomes": len(set(sources)),
        "lineages": _tally(source.lineage for source in sources),
        "source_kinds": _tally(source.kind for source in sources),
    }


def _tally(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _describe_file(name: str, content: bytes) -> dict[str, Any]:
    stored = pack(name, content)
    return {
        "sha256": _sha256(content),
        "bytes": len(content),
        "stored_sha256": _sha256(stored),
        "stored_bytes": len(stored),
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
