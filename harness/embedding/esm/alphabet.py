"""ESM2's alphabet: protein text to token ids, without transformers' tokeniser.

The table is the one that ``EsmTokenizer`` reads from a checkpoint's ``vocab.txt``; a test holds the
two against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.errors import DataError

__all__ = ["MAX_RESIDUES", "TOKENS", "TokenisedProteins", "tokenise"]

TOKENS = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
    *("<null_1>", "<mask>"),
)
BEGIN, END = TOKENS.index("<cls>"), TOKENS.index("<eos>")
UNKNOWN_RESIDUE = TOKENS.index("X")

# ESM2 was trained on 1024 tokens, two of which mark the beginning and the end.
MAX_RESIDUES = 1022

_RESIDUES = "LAGVSERTIDPKQNFYMHWCXBUZO"
_TOKEN_OF_BYTE = np.full(256, UNKNOWN_RESIDUE, dtype=np.int64)
_IS_RESIDUE = np.zeros(256, dtype=bool)
for _residue in _RESIDUES:
    _TOKEN_OF_BYTE[ord(_residue)] = TOKENS.index(_residue)
    _IS_RESIDUE[ord(_residue)] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenisedProteins:
    """Token ids of some proteins, and what had to be changed to get them.

    Attributes
    ----------
    tokens : list of int64 array, (n_residues + 2,)
        With the beginning and end marks.
    n_truncated : int
        Proteins longer than ``MAX_RESIDUES``, cut to that.
    n_replaced : int
        Residues outside the alphabet, read as X.
    """

    tokens: list[npt.NDArray[np.int64]]
    n_truncated: int
    n_replaced: int


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
    tokens: list[npt.NDArray[np.int64]] = []
    n_truncated = n_replaced = 0
    for position, protein in enumerate(proteins):
        residues = _residue_bytes(protein, position)
        n_truncated += len(residues) > MAX_RESIDUES
        residues = residues[:MAX_RESIDUES]
        n_replaced += len(residues) - int(np.count_nonzero(_IS_RESIDUE[residues]))
        ids = np.empty(len(residues) + 2, dtype=np.int64)
        ids[0], ids[-1] = BEGIN, END
        ids[1:-1] = _TOKEN_OF_BYTE[residues]
        tokens.append(ids)
    return TokenisedProteins(tokens=tokens, n_truncated=n_truncated, n_replaced=n_replaced)


def _residue_bytes(protein: str, position: int) -> npt.NDArray[np.uint8]:
    if not protein:
        raise DataError(f"protein {position} (counted from 0) is empty; remove its record")
    if not protein.isascii():
        raise DataError(f"protein {position} (counted from 0) is not ASCII: {protein[:40]!r}")
    return np.frombuffer(protein.encode("ascii"), dtype=np.uint8)
