"""From a genome to records as VirNucPro prepares them: windows, six frames, known proteins.

Owns what counts as a window, a frame and a training fragment. Reading genomes and their
annotation is the caller's work, and so is the label.
"""

# mypy: untyped-calls-exclude=Bio
# (Biopython ships no types)

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from Bio.Seq import reverse_complement, translate

from harness.data.records import RecordId

__all__ = ["GENETIC_CODE", "WINDOW_LENGTH", "Fragment", "cut_windows", "extract_fragments"]

WINDOW_LENGTH = 500  # nucleotides; VirNucPro trains one head for 500 and one for 300
GENETIC_CODE: Final = 11  # NCBI's table for bacteria, archaea, plastids and their viruses

_SHORTEST_WINDOW = 5  # every frame then holds at least one codon
_STOP = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """One open frame of a window: a record without its label.

    Attributes
    ----------
    id : RecordId
        Accession, window number from 1, frame.
    nucleotides : str
        The frame's codons, 5' to 3' on the frame's own strand: a multiple of three, upper-case
        ACGT.
    protein : str
        Their translation, without a stop.
    """

    id: RecordId
    nucleotides: str
    protein: str


def cut_windows(sequence: str, *, length: int = WINDOW_LENGTH) -> Iterator[tuple[int, str]]:
    """Cut a sequence into consecutive windows that do not overlap.

    Parameters
    ----------
    sequence : str
        Nucleotides in either case. A last piece shorter than a window is left out.
    length : int
        Window length in nucleotides, at least 5.

    Yields
    ------
    tuple of int and str
        Window number, from 1, and its upper-case nucleotides. A window that holds anything but
        A, C, G and T is left out and keeps its number, so neighbours stay recognisable.

    Raises
    ------
    ValueError
        If ``length`` is below 5.

    Examples
    --------
    >>> list(cut_windows("acgtaNNNNNTTTTTcc", length=5))
    [(1, 'ACGTA'), (3, 'TTTTT')]
    """
    if length < _SHORTEST_WINDOW:
        raise ValueError(f"length must be at least {_SHORTEST_WINDOW}, got {length}")
    for number, start in enumerate(range(0, len(sequence) - length + 1, length), start=1):
        window = sequence[start : start + length].upper()
        if not window.strip("ACGT"):
            yield number, window


def extract_fragments(
    contigs: Mapping[str, str], proteins: Iterable[str], *, length: int = WINDOW_LENGTH
) -> Iterator[Fragment]:
    """Find the frames of a genome's windows that lie within its annotated proteins.

    Parameters
    ----------
    contigs : mapping of str to str
        Accession to nucleotides, for all pieces of one genome.
    proteins : iterable of str
        The genome's annotated proteins.
    length : int
        Window length in nucleotides.

    Yields
    ------
    Fragment
        In the order of contigs, windows, and frames F1, F2, F3, R1, R2, R3.

    Notes
    -----
    VirNucPro's preparation of training data: a frame is kept if it has no stop codon and its whole
    translation (code 11) is part of an annotated protein of the genome, so neither a spurious open
    frame nor a gene's edge becomes a record. F1 to F3 start at the first, second and third base of
    the window, R1 to R3 at those of its reverse complement.
    """
    annotated = _STOP.join(proteins)  # one search per frame; none crosses a stop
    for accession, sequence in contigs.items():
        for number, window in cut_windows(sequence, length=length):
            for frame, codons in _frames(window):
                protein = translate(codons, table=GENETIC_CODE)
                if _STOP not in protein and protein in annotated:
                    record_id = RecordId(accession=accession, window=number, frame=frame)
                    yield Fragment(id=record_id, nucleotides=codons, protein=protein)


def _frames(window: str) -> Iterator[tuple[str, str]]:
    for strand, bases in (("F", window), ("R", reverse_complement(window))):
        for offset in range(3):
            end = len(bases) - (len(bases) - offset) % 3
            yield f"{strand}{offset + 1}", bases[offset:end]
