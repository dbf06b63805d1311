"""Immutable artifacts: reuse, refusal, atomic writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from harness.artifacts import ArtifactStore, digest_json, write_atomically
from harness.errors import ArtifactError


def write_hello(folder: Path) -> None:
    """Fill an artifact with one file."""
    (folder / "hello.txt").write_text("hello")


def test_obtain_when_asked_twice_then_built_once(tmp_path: Path) -> None:
    """The second call reuses what the first built."""
    store = ArtifactStore(tmp_path)

    first = store.obtain("greeting", {"word": "hello"}, write_hello)
    second = store.obtain("greeting", {"word": "hello"}, lambda _: pytest.fail("built again"))

    assert (first.is_reused, second.is_reused) == (False, True)
    assert (first.path, first.sha256) == (second.path, second.sha256)


def test_obtain_when_the_builder_returns_notes_then_they_are_kept_beside_the_digest(
    tmp_path: Path,
) -> None:
    """How long it took is told again by whoever reuses it, and changes no digest."""

    def build(folder: Path) -> dict[str, int]:
        (folder / "file").write_text("text")
        return {"elapsed_seconds": 7}

    def build_silently(folder: Path) -> None:
        build(folder)

    made = ArtifactStore(tmp_path / "noted").obtain("kind", {}, build)
    reused = ArtifactStore(tmp_path / "noted").obtain("kind", {}, build)
    silent = ArtifactStore(tmp_path / "silent").obtain("kind", {}, build_silently)

    assert (made.notes, reused.notes, silent.notes) == ({"elapsed_seconds": 7},) * 2 + ({},)
    assert made.sha256 == reused.sha256 == silent.sha256


def test_obtain_when_inputs_differ_then_each_has_its_own_folder(tmp_path: Path) -> None:
    """Nothing is overwritten by a run with other settings."""
    store = ArtifactStore(tmp_path)

    one = store.obtain("greeting", {"seed": 1}, write_hello)
    two = store.obtain("greeting", {"seed": 2}, write_hello)

    assert one.path != two.path
    assert one.path.exists()


def test_obtain_when_building_fails_then_nothing_is_kept(tmp_path: Path) -> None:
    """A failed build leaves no artifact, and the next call starts afresh."""
    store = ArtifactStore(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.obtain("greeting", {}, fail)
    rebuilt = store.obtain("greeting", {}, write_hello)

    assert sorted(p.name for p in rebuilt.path.iterdir()) == ["hello.txt", "manifest.json"]


def test_obtain_when_it_resumes_then_the_builder_finds_what_it_left(tmp_path: Path) -> None:
    """An interrupted build that can go on gets its folder back."""
    store = ArtifactStore(tmp_path)

    def stop(folder: Path) -> None:
        (folder / "first.txt").write_text("1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.obtain("parts", {}, stop, resumes=True)
    finished = store.obtain("parts", {}, write_hello, resumes=True)

    assert (finished.path / "first.txt").read_text() == "1"


def test_find_then_returns_the_finished_artifacts_that_are_wanted(tmp_path: Path) -> None:
    """One that is still being built is none, and nothing is built."""
    store = ArtifactStore(tmp_path)
    made = [store.obtain("greeting", {"seed": seed}, write_hello) for seed in range(3)]
    made[2].path.rename(made[2].path.with_suffix(".partial"))

    found = store.find("greeting", lambda inputs: inputs["seed"] > 0)

    assert [artifact.path for artifact in found] == [made[1].path]
    assert store.find("farewell", lambda _: True) == []


def test_find_when_one_was_changed_then_it_is_refused(tmp_path: Path) -> None:
    """As when it is obtained."""
    store = ArtifactStore(tmp_path)
    (store.obtain("greeting", {}, write_hello).path / "hello.txt").write_text("bye")

    with pytest.raises(ArtifactError, match="is not the file that was written"):
        store.find("greeting", lambda _: True)


def write_parts(folder: Path) -> None:
    """Fill an artifact with two files, leaving alone what is there."""
    for name in ("first.txt", "second.txt"):
        if not (folder / name).exists():
            (folder / name).write_text(name)


def test_obtain_when_a_file_was_deleted_and_it_resumes_then_only_that_one_is_made(
    tmp_path: Path,
) -> None:
    """A damaged part costs a part, and the artifact is the same again."""
    store = ArtifactStore(tmp_path)
    built = store.obtain("parts", {}, write_parts, resumes=True)
    (built.path / "first.txt").write_text("damaged")
    with pytest.raises(ArtifactError, match=r"Delete .*first\.txt and run again"):
        store.obtain("parts", {}, write_parts, resumes=True)
    (built.path / "first.txt").unlink()
    kept = (built.path / "second.txt").stat().st_mtime_ns

    rebuilt = store.obtain("parts", {}, write_parts, resumes=True)

    assert (rebuilt.sha256, rebuilt.path) == (built.sha256, built.path)
    assert (rebuilt.path / "second.txt").stat().st_mtime_ns == kept


def test_holds_when_built_then_only_for_the_same_inputs(tmp_path: Path) -> None:
    """What would be reused is known without building."""
    store = ArtifactStore(tmp_path)
    assert not store.holds("greeting", {"seed": 1})
    store.obtain("greeting", {"seed": 1}, write_hello)

    assert store.holds("greeting", {"seed": 1})
    assert not store.holds("greeting", {"seed": 2})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("hello.txt", "hullo", "is not the file that was written"),
        ("manifest.json", "{", "no readable manifest"),
        ("manifest.json", '{"inputs": {"seed": 2}, "files": {"a": ""}}', "made from other inputs"),
        ("manifest.json", '{"inputs": {"seed": 1}, "files": {}}', "it lists no files"),
        ("manifest.json", '{"inputs": {"seed": 1}, "files": ["hello.txt"]}', "must be objects"),
        ("manifest.json", '{"inputs": {"seed": 1}, "inputs": {}}', "stands twice"),
        ("extra.txt", "hullo", "does not list it"),
    ],
)
def test_obtain_when_the_artifact_was_changed_then_it_is_refused(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    """A cached artifact is used only if manifest and files still match."""
    store = ArtifactStore(tmp_path)
    built = store.obtain("greeting", {"seed": 1}, write_hello)
    (built.path / name).write_text(content)

    with pytest.raises(ArtifactError, match=message):
        store.obtain("greeting", {"seed": 1}, write_hello)


def test_obtain_when_another_run_makes_it_then_waiting_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that waits, perhaps for hours, tells for what; it goes on when the other has ended."""
    store, said = ArtifactStore(tmp_path), list[str]()
    path = store.obtain("greeting", {}, write_hello).path
    other = FileLock(path.with_suffix(".lock"))
    other.acquire()

    def end_the_other(message: str, target: Path) -> None:
        said.append(message % target)
        other.release()

    monkeypatch.setattr("harness.artifacts._log.warning", end_the_other)
    assert store.obtain("greeting", {}, write_hello).is_reused

    assert said == [f"{path}: another run is making it; waiting until it is done"]


def test_write_atomically_when_writing_fails_then_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk leaves the last good file and no debris."""
    path = tmp_path / "verdict.json"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.artifacts.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")

    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["verdict.json"]


@given(st.dictionaries(st.text(), st.integers()))
def test_digest_json_when_keys_are_reordered_then_it_is_the_same(table: dict[str, int]) -> None:
    """The digest is that of the value, not of its spelling."""
    assert digest_json(table) == digest_json(dict(reversed(table.items())))
