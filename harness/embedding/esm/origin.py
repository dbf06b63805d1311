"""Where weights come from: the digests that are published, and what they are those of.

A digest is a fact about a file; who holds another file holds other weights, or the same ones
written anew. How files are hashed is known in ``checkpoint``.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["published_as"]

# The sha256 of the weight files of facebook's ESM2 on the Hugging Face hub, as the hub's LFS
# pointers say them; by model and revision.
_PUBLISHED = {
    "facebook/esm2_t6_8M_UR50D@c731040fcd8d73dceaa04b0a8e6329b345b0f5df": {
        "24c5fa474c48f3b754b86efe752d5f189d2bcd88190fa2270fc92b2ef3034189",
    },
    "facebook/esm2_t12_35M_UR50D@6fbf070e65b0b7291e7bbcd451118c216cff79d8": {
        "e35647818e0e064351d4531ed480d225a002567b4b2b93ad3a9246d753150fc0",
    },
    "facebook/esm2_t30_150M_UR50D@a695f6045e2e32885fa60af20c13cb35398ce30c": {
        "c3f1da8aea53bddd32c246c86168c23b9fd72341fb9db9a94436f855f5053566",
    },
    "facebook/esm2_t33_650M_UR50D@08e4846e537177426273712802403f7ba8261b6c": {
        "a08adabb949fa67ad3c14b509d04fd60368b35007b0095e3358f81200c4f4db0",
    },
    "facebook/esm2_t36_3B_UR50D@476b639933c8baad5ad09a60ac1a87f987b656fc": {
        "0f971f11c449d21422aa982b791619c10351972992c735f4c3cd43fe09790412",
        "7560b46fc383c691fb74b915b7d4bcef40d3df181447f16ba4b298845e308d0c",
    },
}


def published_as(digests: Iterable[str]) -> str | None:
    """Return whose published weights some files are: hub id and revision; None if nobody's here.

    Parameters
    ----------
    digests : iterable of str
        The sha256 (hex) of each weight file of a checkpoint.

    Notes
    -----
    The digests of FastESM2_650 are not known here.
    """
    found = set(digests)
    return next((name for name, files in _PUBLISHED.items() if files == found), None)
