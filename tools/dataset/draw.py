"""The draw: an even, deterministic choice of fragments over lineages and over their genomes.

Knows nothing of files. The order of the candidates changes nothing.
"""

# mypy: untyped-calls-exclude=Bio
# (Biopython ships no types)

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from Bio.Seq import reverse_complement

from harness.data.windows import Fragment
from tools.dataset.sources import Source

__all__ = [
    "Candidate",
    "draw_evenly",
    "drop_duplicates",
    "drop_near_duplicates",
    "share_evenly",
]

_WORD = 8  # residues


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A fragment that may be drawn, its window's nucleotides, and the genome it comes from."""

    fragment: Fragment
    window: str
    source: Source


def share_evenly(capacities: Mapping[str, int], total: int) -> dict[str, int]:
    """Share a total as evenly as capacities allow; leftover units go to the first names.

    Parameters
    ----------
    capacities : mapping of str to int
        The most that each name can take.
    total : int
        How many to share.

    Returns
    -------
    dict of str to int
        Shares that sum to ``total``; any two differ by at most one unless the smaller is full.

    Raises
    ------
    ValueError
        If there is less capacity than ``total``.
    """
    if total > sum(capacities.values()):
        raise ValueError(f"cannot share {total}: there are only {sum(capacities.values())}")
    shares = dict.fromkeys(capacities, 0)
    while left := total - sum(shares.values()):
        hungry = [name for name in capacities if shares[name] < capacities[name]]
        portion = max(1, left // len(hungry))
        for name in hungry[:left]:
            shares[name] += min(portion, capacities[name] - shares[name])
    return shares


def drop_duplicates(candidates: Iterable[Candidate], *, seed: int) -> list[Candidate]:
    """Keep one candidate of each nucleotide sequence (strands alike) and of each protein.

    A sequence that occurs in both classes has no certain label: all its candidates are dropped.
    """
    shuffled = _shuffle(candidates, seed=seed)
    labels: dict[str, set[bool]] = {}
    for candidate in shuffled:
        for key in _identities(candidate.fragment):
            labels.setdefault(key, set()).add(candidate.source.is_viral)
    seen: set[str] = set()
    kept = []
    for candidate in shuffled:
        keys = _identities(candidate.fragment)
        if seen.isdisjoint(keys) and all(len(labels[key]) == 1 for key in keys):
            kept.append(candidate)
            seen.update(keys)
    return kept


def drop_near_duplicates(candidates: Iterable[Candidate], *, seed: int) -> list[Candidate]:
    """Keep candidates whose protein shares at most half of its words with any kept before.

    Related phages carry the same genes, so that a random draw would put near copies on both sides
    of a split. A word is eight residues; half of them are shared at about 92% identity. Those with
    the fewest near copies come first, which keeps the most.
    """
    shuffled = _shuffle(candidates, seed=seed)
    vocabularies = [_protein_words(candidate.fragment.protein) for candidate in shuffled]
    copies = _near_copies(vocabularies)
    kept: set[int] = set()
    for number in sorted(copies, key=lambda each: len(copies[each])):
        if kept.isdisjoint(copies[number]):
            kept.add(number)
    return [shuffled[number] for number in sorted(kept)]


def _near_copies(vocabularies: Sequence[set[str]]) -> dict[int, set[int]]:
    """Return for each vocabulary the others that share over half of the words of one of the two."""
    holders: dict[str, list[int]] = {}
    for number, words in enumerate(vocabularies):
        for word in words:
            holders.setdefault(word, []).append(number)
    copies: dict[int, set[int]] = {number: set() for number in range(len(vocabularies))}
    for number, words in enumerate(vocabularies):
        shared = Counter(other for word in words for other in holders[word] if other != number)
        for other, count in shared.items():
            if 2 * count > len(words):
                copies[number].add(other)
                copies[other].add(number)
    return copies


def _protein_words(protein: str) -> set[str]:
    """Return the distinct words of eight residues of a protein."""
    return {protein[start : start + _WORD] for start in range(len(protein) - _WORD + 1)}


def draw_evenly(candidates: Sequence[Candidate], total: int, *, seed: int) -> list[Candidate]:
    """Draw evenly over lineages, then over each lineage's genomes, then at random.

    Parameters
    ----------
    candidates : sequence of Candidate
        Those of one class, without duplicates.
    total : int
        How many to draw.
    seed : int
        Decides which fragments of a genome are drawn.
    """
    by_lineage: dict[str, dict[str, list[Candidate]]] = {}
    for candidate in _shuffle(candidates, seed=seed):
        genomes = by_lineage.setdefault(candidate.source.lineage, {})
        genomes.setdefault(candidate.source.genome, []).append(candidate)
    lineages = dict(sorted(by_lineage.items()))
    shares = share_evenly({name: _count(genomes) for name, genomes in lineages.items()}, total)
    drawn = []
    for lineage, genomes in lineages.items():
        sizes = {name: len(found) for name, found in sorted(genomes.items())}
        for genome, share in share_evenly(sizes, shares[lineage]).items():
            drawn += genomes[genome][:share]
    return drawn


def _count(genomes: Mapping[str, Sequence[Candidate]]) -> int:
    return sum(map(len, genomes.values()))


def _shuffle(candidates: Iterable[Candidate], *, seed: int) -> list[Candidate]:
    """Order by a digest of the id, which no library's generator can change."""
    return sorted(
        candidates,
        key=lambda each: hashlib.sha256(f"{seed}:{each.fragment.id}".encode()).digest(),
    )


def _identities(fragment: Fragment) -> tuple[str, str]:
    strands = fragment.nucleotides, reverse_complement(fragment.nucleotides)
    return f"nucleotides {min(strands)}", f"protein {fragment.protein}"
