"""Opening and finding input files: gzip, damage, permissions, links."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from harness.data.inputs import list_files, open_input, require_files
from harness.errors import DataError, MissingInput

CONTENT = b"one\ntwo two\nthree"


def read_all(path: Path) -> bytes:
    """Return a file's unpacked content."""
    with open_input(path) as (stream, _):
        return stream.read()


def test_gzip_under_any_name_then_is_unpacked(tmp_path: Path) -> None:
    """The content tells what is packed, not the name."""
    path = tmp_path / "plain.fa"
    path.write_bytes(gzip.compress(CONTENT))
    assert read_all(path) == CONTENT


def test_gzip_of_several_members_then_is_read_whole(tmp_path: Path) -> None:
    """Files joined by cat, and bgzip's, hold several gzip members."""
    path = tmp_path / "joined.gz"
    path.write_bytes(gzip.compress(b"first\n") + gzip.compress(b"second\n"))
    assert read_all(path) == b"first\nsecond\n"


def test_gzip_cut_short_then_error_names_the_file(tmp_path: Path) -> None:
    """A download that broke off is not taken for a shorter file."""
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(bytes(range(256)) * 50)[:-20])
    with pytest.raises(DataError, match=r"cut\.gz: the gzip content is damaged or cut short"):
        read_all(path)


def test_gzip_with_flipped_bytes_then_error_names_the_file(tmp_path: Path) -> None:
    """Damage inside is found."""
    packed = bytearray(gzip.compress(bytes(range(256)) * 50))
    packed[len(packed) // 2 :] = bytes(len(packed) - len(packed) // 2)
    path = tmp_path / "flipped.gz"
    path.write_bytes(packed)
    with pytest.raises(DataError, match=r"flipped\.gz"):
        read_all(path)


def test_missing_file_then_missing_input(tmp_path: Path) -> None:
    """What is not there is missing, rather than broken."""
    with pytest.raises(MissingInput, match="nowhere"):
        read_all(tmp_path / "nowhere")


def test_folder_in_place_of_a_file_then_error_names_it(tmp_path: Path) -> None:
    """A folder cannot be read as a file."""
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_all(tmp_path)


def test_file_without_permission_then_error_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal by the operating system is reported with the path (root is never refused)."""

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "secret").write_text("mine")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="secret: cannot be read: Permission denied"):
        read_all(tmp_path / "secret")


def test_folder_without_permission_then_error_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that may not be listed is not taken for an empty one."""

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        list_files(tmp_path)


def test_link_to_itself_then_error_names_it(tmp_path: Path) -> None:
    """A link that never arrives is an error, not an endless wait."""
    path = tmp_path / "loop"
    path.symlink_to(path)
    with pytest.raises(DataError, match="loop: cannot be read: Too many levels"):
        read_all(path)


def test_folder_that_links_to_its_parent_then_error_names_it(tmp_path: Path) -> None:
    """A loop of folders is found at its first turn."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "back").symlink_to(tmp_path)
    with pytest.raises(DataError, match=r"back: leads to .* a second time"):
        list_files(tmp_path)


def test_found_files_then_sorted_and_below_linked_folders_too(tmp_path: Path) -> None:
    """Links to folders elsewhere are followed; what macOS leaves beside a file is not a file."""
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    for folder in (outside, inside / "b"):
        folder.mkdir(parents=True)
        (folder / "x.gb").touch()
        (folder / "._x.gb").touch()
    (inside / "a").symlink_to(outside)
    assert list_files(inside) == (inside / "a" / "x.gb", inside / "b" / "x.gb")


def test_require_files_when_there_is_none_then_the_ending_is_named(tmp_path: Path) -> None:
    """What was looked for, and where."""
    (tmp_path / "output_1_ESM.pt").touch()

    with pytest.raises(MissingInput, match=r"holds no \*_DNABERT_S\.pt file. Name the folder"):
        require_files(tmp_path, "_DNABERT_S.pt")
