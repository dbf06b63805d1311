"""Whose published weights some files are."""

from __future__ import annotations

from harness.embedding.embedder import published_as

SHARDS = (
    "0f971f11c449d21422aa982b791619c10351972992c735f4c3cd43fe09790412",
    "7560b46fc383c691fb74b915b7d4bcef40d3df181447f16ba4b298845e308d0c",
)


def test_published_as_when_all_files_are_there_then_model_and_revision_are_known() -> None:
    """Both shards of 3B, in whatever order; one of them alone is nobody's."""
    name = "facebook/esm2_t36_3B_UR50D@476b639933c8baad5ad09a60ac1a87f987b656fc"

    assert published_as(reversed(SHARDS)) == name
    assert published_as(SHARDS[:1]) is None
