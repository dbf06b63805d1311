"""ESM2's alphabet: protein text to token ids, without transformers' tokeniser.

The table is the one that ``EsmTokenizer`` reads from a checkpoint's ``vocab.txt``; a test holds the
two against each other.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.embedding.embedder import MAX_RESIDUES
from harness.errors import DataError

__all__ = [
    "MAX_TOKENS",
    "TOKENS",
    "TokenisedProteins",
    "as_proteins",
    "token_lengths",
    "tokenise",
]

TOKENS = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
    *("<null_1>", "<mask>"),
)
BEGIN, END = TOKENS.index("<cls>"), TOKENS.index("<eos>")
UNKNOWN_RESIDUE = TOKENS.index("X")

MAX_TOKENS = MAX_RESIDUES + 2  # with the marks of beginning and end

_RESIDUES = "LAGVSERTIDPKQNFYMHWCXBUZO"
_TOKEN_OF_BYTE = np.full(256, UNKNOWN_RESIDUE, dtype=np.int32)
_IS_RESIDUE = np.zeros(256, dtype=bool)
for _residue in _RESIDUES:
    _TOKEN_OF_BYTE[ord(_residue)] = TOKENS.index(_residue)
    _IS_RESIDUE[ord(_residue)] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenisedProteins:
    """Token ids of some proteins, end to end, and what had to be changed to get them.

    Attributes
    ----------
    tokens : int32 array, (n_tokens,)
        Of each protein its beginning mark, its residues and its end mark.
    lengths : int64 array, (n_proteins,)
        Tokens of each protein, both marks included.
    n_truncated : int
        Proteins longer than ``MAX_RESIDUES``, cut to that.
    n_replaced : int
        Residues outside the alphabet, read as X.
    """

    tokens: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    n_truncated: int
    n_replaced: int


_BLANKS = str.maketrans("", "", string.whitespace)


def as_proteins(sequences: Iterable[str]) -> list[str]:
    """Return proteins in their order, as the readers of files would make them of the same text.

    Parameters
    ----------
    sequences : iterable of str
        In any case, with blanks, line ends, and a stop at the end; a pandas Series counts by
        position, whatever its index.

    Raises
    ------
    DataError
        If one is no text, not ASCII, or holds what is no letter; the message gives its position.

    Examples
    --------
    >>> as_proteins(["mkv la*", "MKJ"])
    ['MKVLA', 'MKJ']
    """
    if isinstance(sequences, str):
        raise TypeError(f"expected a sequence of proteins, got one text: {sequences[:40]!r}")
    texts = list(sequences)
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(
                f"protein {position} (counted from 0) is no text but {text!r}; remove its record"
            )
    letters = _residue_bytes(texts).tobytes()
    if not letters.translate(None, string.ascii_uppercase.encode()):
        return texts
    return [_as_protein(text, position) for position, text in enumerate(texts)]


def _as_protein(text: str, position: int) -> str:
    protein = text.translate(_BLANKS).upper().removesuffix("*")
    if others := protein.strip(string.ascii_uppercase):
        raise DataError(
            f"protein {position} (counted from 0) holds {others[0]!r}, which is no residue: "
            f"{protein[:40]!r}. Leave it out, or cut it there"
        )
    return protein


def tokenise(proteins: Sequence[str]) -> TokenisedProteins:
    """Turn proteins into ESM2 token ids.

    Parameters
    ----------
    proteins : sequence of str
        One-letter residues, upper case.

    Raises
    ------
    DataError
        If a protein is empty, or not ASCII; the message gives its position.
    """
    lengths = token_lengths(proteins)
    residues = _residue_bytes([protein[:MAX_RESIDUES] for protein in proteins])
    tokens = np.empty(len(residues) + 2 * len(proteins), dtype=np.int32)
    ends = np.cumsum(lengths)
    # Each residue lies behind those before it, the marks of earlier proteins and its own first.
    n_marks_before = np.repeat(2 * np.arange(len(proteins)) + 1, lengths - 2)
    tokens[np.arange(len(residues)) + n_marks_before] = _TOKEN_OF_BYTE[residues]
    tokens[ends - lengths] = BEGIN
    tokens[ends - 1] = END
    return TokenisedProteins(
        tokens=tokens,
        lengths=lengths,
        n_truncated=sum(len(protein) > MAX_RESIDUES for protein in proteins),
        n_replaced=len(residues) - int(np.count_nonzero(_IS_RESIDUE[residues])),
    )


def token_lengths(proteins: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return how many tokens each protein becomes: its residues, cut if too long, and two marks.

    Raises
    ------
    DataError
        If a protein is empty; the message gives its position.
    """
    n_residues = np.fromiter(map(len, proteins), dtype=np.int64, count=len(proteins))
    if len(empty := np.flatnonzero(n_residues == 0)):
        raise DataError(f"protein {empty[0]} (counted from 0) is empty; remove its record")
    return np.minimum(n_residues, MAX_RESIDUES) + 2


def _residue_bytes(proteins: Sequence[str]) -> npt.NDArray[np.uint8]:
    try:
        return np.frombuffer("".join(proteins).encode("ascii"), dtype=np.uint8)
    except UnicodeEncodeError as error:
        position = next(n for n, protein in enumerate(proteins) if not protein.isascii())
        raise DataError(
            f"protein {position} (counted from 0) is not ASCII: {proteins[position][:40]!r}"
        ) from error
