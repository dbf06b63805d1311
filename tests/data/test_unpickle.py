"""Foreign torch files are loaded without running anything that they hold."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.unpickle import load_restricted
from harness.errors import DataError, HarnessError, MissingInput


class Payload:
    """Runs a command when it is unpickled by the ordinary unpickler."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.trace}",)


class Head(torch.nn.Module):
    """A small head, to be pickled whole."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden_layer = torch.nn.Linear(3, 2)


HEAD_NAME = f"{Head.__module__}.Head"
LINEAR_NAME = "torch.nn.modules.linear.Linear"


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("is_mapped", [True, False], ids=["mapped", "whole"])
def test_tensors_and_plain_values_then_come_back(
    tmp_path: Path, is_zip: bool, is_mapped: bool
) -> None:
    """Both of PyTorch's formats are read, mapped or not."""
    content = {"ids": ["a"], "data": torch.arange(3.0), "n": 2, "nested": ({"x": None}, 0.5)}
    path = tmp_path / "x.pt"
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    loaded = load_restricted(path, is_mapped=is_mapped)
    assert isinstance(loaded, dict)
    assert torch.equal(loaded.pop("data"), content.pop("data"))  # type: ignore[arg-type]
    assert loaded == content


def test_plain_values_alone_then_read_without_torchs_slow_unpickler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Millions of numbers in lists are the nucleotide embeddings of VirNucPro."""
    content = {"ids": ["a", "b"], "data": [{"label": "a", "mean": [0.5, -1.0]}, (None, True)]}
    torch.save(content, tmp_path / "x.pt")
    monkeypatch.delattr(torch, "load")
    assert load_restricted(tmp_path / "x.pt") == content


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_torch_file_that_runs_code_then_refused_and_nothing_is_run(
    tmp_path: Path, is_zip: bool, protocol: int
) -> None:
    """The error names the file and the function; the trace is not left."""
    trace, path = tmp_path / "trace", tmp_path / "evil.pt"
    torch.save(
        {"data": [Payload(trace)]},
        path,
        _use_new_zipfile_serialization=is_zip,
        pickle_protocol=protocol,
    )
    with pytest.raises(DataError, match=r"evil\.pt: refused, because it names '(posix|nt)\.system"):
        load_restricted(path)
    assert not trace.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickle_that_runs_code_then_refused_and_nothing_is_run(
    tmp_path: Path, protocol: int
) -> None:
    """A bare pickle with another ending is treated alike, in every protocol."""
    trace, path = tmp_path / "trace", tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Payload(trace), protocol))
    with pytest.raises(
        DataError, match=r"evil\.pth: refused, because it names '(posix|nt)\.system"
    ):
        load_restricted(path)
    assert not trace.exists()


def test_planted_payload_then_runs_in_the_ordinary_unpickler(tmp_path: Path) -> None:
    """The payload of the tests above is a live one."""
    trace = tmp_path / "trace"
    pickle.loads(pickle.dumps(Payload(trace)))
    assert trace.exists()


def test_pickled_module_without_permission_then_error_names_its_class(tmp_path: Path) -> None:
    """A head that was pickled whole is refused unless its class is allowed."""
    path = tmp_path / "head.pth"
    torch.save(Head(), path)
    with pytest.raises(DataError, match=f"refused, because it names '{HEAD_NAME}'"):
        load_restricted(path)


def test_pickled_module_with_its_classes_allowed_then_is_built(tmp_path: Path) -> None:
    """Only what is listed is built, under the name that the file uses."""
    path, head = tmp_path / "head.pth", Head()
    torch.save(head, path)
    allowed = {HEAD_NAME: Head, LINEAR_NAME: torch.nn.Linear}
    loaded = load_restricted(path, allowed=allowed)
    assert isinstance(loaded, Head)
    assert torch.equal(loaded.hidden_layer.weight, head.hidden_layer.weight)


def test_refusal_in_another_pickle_protocol_then_names_only_what_is_not_allowed(
    tmp_path: Path,
) -> None:
    """Allowed classes and tensors are not blamed."""
    path = tmp_path / "x.pt"
    content = {"head": Head(), "data": torch.ones(2), "evil": Payload(tmp_path / "trace")}
    torch.save(content, path, pickle_protocol=4)
    with pytest.raises(DataError, match=r"because it names '\w+\.system'\. Nothing"):
        load_restricted(path, allowed={HEAD_NAME: Head, LINEAR_NAME: torch.nn.Linear})


def test_tensors_in_a_newer_pickle_protocol_then_loaded_or_called_unreadable(
    tmp_path: Path,
) -> None:
    """Protocol 3 is understood, without a warning; 4 is not, and no class is blamed for it."""
    for protocol in (3, 4):
        content = {"data": torch.ones(2)}
        torch.save(content, tmp_path / f"{protocol}.pt", pickle_protocol=protocol)
    assert isinstance(load_restricted(tmp_path / "3.pt"), dict)
    with pytest.raises(DataError, match=r"4\.pt: not a file of tensors"):
        load_restricted(tmp_path / "4.pt")


def test_classes_allowed_once_then_are_not_allowed_afterwards(tmp_path: Path) -> None:
    """A permission ends with the call."""
    path = tmp_path / "head.pth"
    torch.save(Head(), path)
    load_restricted(path, allowed={HEAD_NAME: Head, LINEAR_NAME: torch.nn.Linear})
    with pytest.raises(DataError, match="refused"):
        load_restricted(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"junk", b"PK\x03\x04", bytes(range(256)) * 8, pickle.dumps({"a": 1}), b"\x80\x02K"],
    ids=["empty", "text", "zip-head", "binary", "other-pickle", "cut-pickle"],
)
def test_file_that_torch_did_not_write_then_error_names_it(tmp_path: Path, content: bytes) -> None:
    """Junk of any kind is one kind of error."""
    path = tmp_path / "junk.pt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"junk\.pt: not a file of tensors .* or damaged"):
        load_restricted(path)


def test_file_cut_short_anywhere_then_error(tmp_path: Path) -> None:
    """No part of a file passes for the whole."""
    path = tmp_path / "whole.pt"
    torch.save({"ids": ["a"], "data": torch.ones(5)}, path)
    content, part = path.read_bytes(), tmp_path / "part.pt"
    for length in range(0, len(content), 97):
        part.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"part\.pt"):
            load_restricted(part)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@settings(max_examples=30)
@given(changes=st.dictionaries(st.integers(0, 900), st.integers(0, 255), min_size=1, max_size=5))
def test_file_with_changed_bytes_then_loads_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, is_zip: bool, changes: dict[int, int]
) -> None:
    """Whatever was damaged, no other error comes out."""
    path = tmp_path_factory.getbasetemp() / "changed.pt"
    torch.save({"data": torch.ones(5)}, path, _use_new_zipfile_serialization=is_zip)
    content = bytearray(path.read_bytes())
    for place, byte in changes.items():
        content[place % len(content)] = byte
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        load_restricted(path)


def test_git_lfs_pointer_then_named_as_such(tmp_path: Path) -> None:
    """A clone without git-lfs leaves a text, which is no file to be written again."""
    path = tmp_path / "o_ESM.pt"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 2609512812\n")

    with pytest.raises(MissingInput, match=r"o_ESM\.pt is a Git LFS pointer.*`git lfs pull`"):
        load_restricted(path)


def test_version_of_torch_then_read_as_text(tmp_path: Path) -> None:
    """VirNucPro keeps ``torch.__version__`` as it is, which is text of a class of its own."""
    torch.save({"pytorch_version": torch.__version__}, tmp_path / "a.pth")

    assert load_restricted(tmp_path / "a.pth") == {"pytorch_version": str(torch.__version__)}


def test_missing_file_then_missing_input(tmp_path: Path) -> None:
    """What is not there is missing, rather than damaged."""
    with pytest.raises(MissingInput, match=r"no\.pt is not there"):
        load_restricted(tmp_path / "no.pt")


def test_folder_in_place_of_a_file_then_error_names_it(tmp_path: Path) -> None:
    """A folder is no torch file."""
    with pytest.raises(HarnessError, match="Is a directory"):
        load_restricted(tmp_path)
