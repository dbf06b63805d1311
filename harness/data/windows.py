"""VirNucPro's rule from a sequence to records: its windows, their open frames, known proteins.

Owns what counts as a window, a frame and a training fragment, base for base as VirNucPro's own
preparation has it. Reading genomes and their annotation is the caller's work, and so is the label.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from Bio.Data.CodonTable import unambiguous_dna_by_id
from Bio.Seq import reverse_complement

__all__ = ["WINDOW_BASES", "Fragment", "cut_windows", "extract_fragments", "open_frames"]

# mypy: untyped-calls-exclude=Bio
# (Biopython ships no types)

WINDOW_BASES = 500  # VirNucPro trains one head for 500 and one for 300

_STOP = "*"
_CODE = unambiguous_dna_by_id[1]  # the standard code
_RESIDUES = _CODE.forward_table | dict.fromkeys(_CODE.stop_codons, _STOP)
_AMBIGUOUS = frozenset("NRYMKSWHBVD")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """One frame of a window without a stop: a record without its label.

    Attributes
    ----------
    accession : str
        The sequence that was cut.
    window : int
        The window's number, from 1.
    frame : str
        F1 to F3 start at the first, second and third base of the window, R1 to R3 at those of its
        reverse complement.
    nucleotides : str
        5' to 3' on the frame's own strand: one base more than the protein's codons, unless the
        window ends before. That is what DNABERT-S sees.
    protein : str
        The codons' residues; a codon with a letter other than A, C, G and T is passed over.
    """

    accession: str
    window: int
    frame: str
    nucleotides: str
    protein: str

    @property
    def id(self) -> str:
        """Return VirNucPro's id, such as ``NC_029549.1_chunk_3R2``."""
        return f"{self.accession}_chunk_{self.window}{self.frame}"


def cut_windows(sequence: str, *, window_bases: int = WINDOW_BASES) -> Iterator[tuple[int, str]]:
    """Cut a sequence into windows that overlap as evenly as they can, so that they cover it.

    Parameters
    ----------
    sequence : str
        Nucleotides. One that is shorter than a window is a window itself.
    window_bases : int
        Window length in nucleotides, at least 1.

    Yields
    ------
    tuple of int and str
        The window's number, from 1, and its nucleotides. Where the overlaps do not come out even,
        the last window is shorter.

    Notes
    -----
    n windows have a surplus of r bases over the sequence. Each begins r // n bases before the one
    before it ends, and the first r - (r // n)(n - 1) after the first one base more.

    Examples
    --------
    >>> list(cut_windows("ACGTACG", window_bases=5))
    [(1, 'ACGTA'), (2, 'TACG')]
    """
    if window_bases < 1:
        raise ValueError(f"window_bases must be at least 1, got {window_bases}")
    n_windows = -(-len(sequence) // window_bases)
    surplus = n_windows * window_bases - len(sequence)
    for place in range(n_windows):
        overlap = surplus // n_windows
        n_longer = surplus - overlap * (n_windows - 1)
        start = place * (window_bases - overlap) - min(place, n_longer)
        yield place + 1, sequence[start : start + window_bases]


def open_frames(accession: str, number: int, window: str) -> Iterator[Fragment]:
    """Return the frames of a window that hold no stop, from F1 to R3.

    They are what VirNucPro predicts for; some of them are what it trains on.

    Parameters
    ----------
    accession : str
        The sequence that was cut.
    number : int
        The window's number.
    window : str
        Its nucleotides, in upper case.
    """
    for strand, bases in (("F", window), ("R", reverse_complement(window))):
        for offset in range(3):
            codons = (bases[at : at + 3] for at in range(offset, len(bases) - 2, 3))
            protein = "".join([_RESIDUES.get(codon, "") for codon in codons])
            if _STOP not in protein:
                yield Fragment(
                    accession=accession,
                    window=number,
                    frame=f"{strand}{offset + 1}",
                    nucleotides=bases[offset : offset + 3 * len(protein) + 1],
                    protein=protein,
                )


def extract_fragments(
    accession: str,
    sequence: str,
    translations: Collection[str],
    *,
    window_bases: int = WINDOW_BASES,
) -> Iterator[Fragment]:
    """Find the frames of a sequence's windows that lie within its annotated proteins.

    Parameters
    ----------
    accession, sequence : str
        The sequence's name, and its nucleotides in upper case.
    translations : collection of str
        Its annotated proteins.
    window_bases : int
        Window length in nucleotides.

    Yields
    ------
    Fragment
        In the order of windows and frames.

    Notes
    -----
    VirNucPro's preparation of training data: a window with an ambiguous base is left out whole, and
    a frame is kept if it has no stop and its whole protein is part of one annotated protein, so
    neither a spurious open frame nor a gene's edge becomes a record.
    """
    if not translations:
        return
    known = _STOP.join(translations)  # one search per frame; none crosses a stop
    for number, window in cut_windows(sequence, window_bases=window_bases):
        if _AMBIGUOUS.isdisjoint(window):
            for fragment in open_frames(accession, number, window):
                if fragment.protein in known:
                    yield fragment
