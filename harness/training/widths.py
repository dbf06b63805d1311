"""Which embedders make features of which width, for messages that help."""

from __future__ import annotations

__all__ = ["KNOWN_WIDTHS", "describe_width", "explain_widths"]

# DNABERT-S gives 768 numbers; the protein embedder gives the rest.
KNOWN_WIDTHS = {
    2048: "768 + 1280, FastESM2_650 or ESM2 650M",
    3328: "768 + 2560, ESM2 3B",
}


def describe_width(n_features: int) -> str:
    """Return a width with the embedder that it belongs to, where that is known.

    Examples
    --------
    >>> describe_width(3328)
    '3328 features (768 + 2560, ESM2 3B)'
    >>> describe_width(100)
    '100 features'
    """
    known = KNOWN_WIDTHS.get(n_features)
    return f"{n_features} features" + (f" ({known})" if known else "")


def explain_widths(*, expected: int, found: int) -> str:
    """Return a sentence on a width that does not fit, with all widths that are known."""
    known = "; ".join(f"{width} = {parts}" for width, parts in KNOWN_WIDTHS.items())
    return (
        f"expected {describe_width(expected)}, got {describe_width(found)}. "
        f"Known widths: {known}. Use the head and the embeddings of the same protein embedder"
    )
