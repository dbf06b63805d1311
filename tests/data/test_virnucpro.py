"""VirNucPro's files and folders of embeddings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.data.virnucpro import (
    label_from_folder,
    read_embeddings,
    read_merged,
    read_merged_folder,
    write_embeddings,
    write_merged,
)
from harness.errors import DataError, MissingInput

FEATURES = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=np.float32)
IDS = ("a_chunk_1F1", "a_chunk_1F2")


def save(path: Path, content: object) -> Path:
    """Write a torch file with any content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def merged(**changes: Any) -> dict[str, Any]:
    """Return the content of a good merged file, with changes."""
    return {"ids": list(IDS), "data": torch.tensor(FEATURES), "labels": [1], **changes}


matrices = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 5)))


@pytest.mark.parametrize("ending", ["_DNABERT_S.pt", "_ESM.pt"])
@settings(max_examples=20)
@given(features=matrices)
def test_embeddings_written_and_read_then_equal(
    tmp_path_factory: pytest.TempPathFactory, ending: str, features: npt.NDArray[np.float32]
) -> None:
    """Every float32 survives, in both formats."""
    path = tmp_path_factory.getbasetemp() / f"x{ending}"
    ids = tuple(f"id{row}" for row in range(len(features)))
    write_embeddings(path, ids, features)
    stored = read_embeddings(path)
    assert (stored.ids, stored.label) == (ids, None)
    assert stored.features.dtype == np.float32
    np.testing.assert_array_equal(stored.features, features)


@pytest.mark.parametrize("label", [0, 1, None])
def test_merged_file_written_and_read_then_equal(tmp_path: Path, label: int | None) -> None:
    """Ids, features and the one label of the file survive; data to predict have no label."""
    path = tmp_path / "x_merged.pt"
    write_merged(path, IDS, FEATURES, label=label)
    stored = read_merged(path)
    assert (stored.ids, stored.label, stored.path) == (IDS, label, path)
    np.testing.assert_array_equal(stored.features, FEATURES)


def test_files_as_virnucpro_lays_them_out_then_read(tmp_path: Path) -> None:
    """The formats are those of VirNucPro's tools, spelled out here."""
    rows = [
        {"label": name, "mean_representation": row.tolist()}
        for name, row in zip(IDS, FEATURES, strict=True)
    ]
    dna = save(tmp_path / "x_DNABERT_S.pt", {"nucleotide": list(IDS), "data": rows})
    protein = {"proteins": list(IDS), "data": [torch.tensor(row) for row in FEATURES]}
    esm = save(tmp_path / "x_ESM.pt", protein)
    for path in (dna, esm, save(tmp_path / "x_merged.pt", merged())):
        stored = read_merged(path) if "merged" in path.name else read_embeddings(path)
        assert stored.ids == IDS
        np.testing.assert_array_equal(stored.features, FEATURES)


@pytest.mark.parametrize("kind", [torch.nn.Parameter, lambda t: t.clone().requires_grad_() * 1])
def test_tensors_written_without_no_grad_then_their_numbers_are_read(
    tmp_path: Path, kind: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """Parameters, and results that remember that they have a gradient."""
    rows = torch.arange(6.0).reshape(2, 3)
    content = {"ids": ["a", "b"], "data": kind(rows)}
    torch.save(content, tmp_path / "o_merged.pt")
    torch.save({"proteins": ["a", "b"], "data": [*map(kind, rows)]}, tmp_path / "o_ESM.pt")

    for found in (read_merged(tmp_path / "o_merged.pt"), read_embeddings(tmp_path / "o_ESM.pt")):
        np.testing.assert_array_equal(found.features, rows)


def test_half_precision_features_then_read_as_float32(tmp_path: Path) -> None:
    """Narrower numbers are widened, which changes none."""
    half = torch.tensor(FEATURES).bfloat16()
    path = save(tmp_path / "x_merged.pt", merged(data=half))
    proteins = save(tmp_path / "x_ESM.pt", {"proteins": list(IDS), "data": list(half)})
    for stored in (read_merged(path), read_embeddings(proteins)):
        assert stored.features.dtype == np.float32
        np.testing.assert_array_equal(stored.features, FEATURES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": [*IDS, "c"]}, r"3 ids for 2 rows.*'a_chunk_1F1', 'a_chunk_1F2', 'c'"),
        ({"ids": [IDS[0]]}, "1 ids for 2 rows"),
        ({"ids": [IDS[0]] * 2}, "ids that occur twice: 'a_chunk_1F1'"),
        ({"ids": [1, 2]}, "ids must be text"),
        ({"ids": []}, "'ids' must be a list that is not empty"),
        ({"ids": None}, "'ids' must be a list"),
        ({"data": [[1.0], [2.0]]}, "'data' must be a tensor of rows x features"),
        ({"data": torch.ones(2)}, "'data' must be a tensor of rows x features"),
        ({"data": torch.ones(2, 2, dtype=torch.int64)}, "'data' must be a tensor"),
        ({"labels": [0, 1]}, r"'labels' must be \[0\] or \[1\]"),
        ({"labels": [2]}, r"'labels' must be \[0\] or \[1\]"),
    ],
)
def test_merged_file_with_a_fault_then_error_says_which(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """Rows that cannot be told apart, or features of no use, are refused."""
    path = save(tmp_path / "bad_merged.pt", merged(**changes))
    with pytest.raises(DataError, match=rf"bad_merged\.pt: .*{message}"):
        read_merged(path)


DNA_ROW = {"label": "a", "mean_representation": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "expected a dict"),
        ({"other": 1}, r"expected the key 'nucleotide' .* found \['other'\]"),
        ({"nucleotide": ["a"]}, "'data' must be a list"),
        ({"nucleotide": ["a", "b"], "data": [DNA_ROW]}, "2 ids for 1 rows"),
        ({"nucleotide": ["b"], "data": [DNA_ROW]}, "the row of id 'b' is labelled 'a'"),
        ({"nucleotide": ["a"], "data": [{"label": "a"}]}, "must hold dicts with 'label'"),
        (
            {
                "nucleotide": ["a", "b"],
                "data": [DNA_ROW, {"label": "b", "mean_representation": [1]}],
            },
            r"vectors of one length \(list\), the first has 2 numbers; that of 'b' is \[1\]",
        ),
        (
            {"nucleotide": ["a"], "data": [{**DNA_ROW, "mean_representation": 1}]},
            "that of 'a' is 1",
        ),
        (
            {"nucleotide": ["a"], "data": [{**DNA_ROW, "mean_representation": ["x", "y"]}]},
            "the vector of 'a' does not hold numbers",
        ),
        ({"proteins": ["a"], "data": [[1.0]]}, r"vectors of one length \(Tensor\)"),
        ({"proteins": ["a", "b"], "data": [torch.ones(2), torch.ones(3)]}, r"'b' is Tensor \(3,\)"),
        ({"proteins": ["a"], "data": [torch.ones(2, 2)]}, r"'a' is Tensor \(2, 2\)"),
    ],
)
def test_embeddings_file_with_a_fault_then_error_says_which(
    tmp_path: Path, content: object, message: str
) -> None:
    """Anything but one vector for each id is refused."""
    path = save(tmp_path / "bad.pt", content)
    with pytest.raises(DataError, match=rf"bad\.pt: .*{message}"):
        read_embeddings(path)


def test_embeddings_file_of_the_other_kind_then_error_says_what_it_holds(tmp_path: Path) -> None:
    """Name and content agree, so that nucleotides are never taken for proteins."""
    write_embeddings(tmp_path / "x_DNABERT_S.pt", IDS, FEATURES)
    path = (tmp_path / "x_DNABERT_S.pt").rename(tmp_path / "x_ESM.pt")
    with pytest.raises(DataError, match=r"x_ESM\.pt: holds 'nucleotide', so its name must end in"):
        read_embeddings(path)


def test_folder_of_merged_files_then_labels_from_the_folders(tmp_path: Path) -> None:
    """Files without a label get VirNucPro's: folders whose name holds 'viral' are viral."""
    for folder, first in (("viral.1.1_merged", "v"), ("bacteria.1_merged", "b")):
        for number in (1, 2):
            path = tmp_path / folder / f"output_{number}_merged.pt"
            write_merged(path, [f"{first}{number}"], FEATURES[:1])
    files = read_merged_folder(tmp_path)
    found = [(stored.ids, stored.label) for stored in files]
    assert found == [(("b1",), 0), (("b2",), 0), (("v1",), 1), (("v2",), 1)]


@pytest.mark.parametrize("name", ["viral.1.1_merged", "adenoviral", "Viral.1"])
def test_folder_name_that_says_viral_then_label_1(name: str) -> None:
    """The rule is VirNucPro's, in any case."""
    assert label_from_folder(name) == 1


@pytest.mark.parametrize(
    "name", ["archaea.1_merged", "nonviral.1_merged", "data_non-viral", "NonViral", "not_viral"]
)
def test_folder_name_that_says_another_thing_then_label_0(name: str) -> None:
    """'nonviral' holds 'viral' and means the opposite."""
    assert label_from_folder(name) == 0


def test_unclear_folder_with_labelled_files_then_the_files_decide(tmp_path: Path) -> None:
    """The file's own label is explicit."""
    save(tmp_path / "nonviral" / "x_merged.pt", merged(labels=[0]))
    assert [stored.label for stored in read_merged_folder(tmp_path)] == [0]


def test_folder_of_files_without_labels_then_its_name_decides(tmp_path: Path) -> None:
    """Data that were merged for prediction can be judged."""
    write_merged(tmp_path / "nonviral" / "x_merged.pt", IDS, FEATURES)
    assert [stored.label for stored in read_merged_folder(tmp_path)] == [0]


def test_folder_named_by_a_dot_then_its_real_name_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path does not hide the name that says the label."""
    write_merged(tmp_path / "viral" / "x_merged.pt", IDS, FEATURES)
    monkeypatch.chdir(tmp_path / "viral")
    assert [stored.label for stored in read_merged_folder(Path())] == [1]


def test_label_of_the_file_against_its_folder_then_error(tmp_path: Path) -> None:
    """Two answers to one question are not averaged."""
    save(tmp_path / "bacteria" / "x_merged.pt", merged(labels=[1]))
    with pytest.raises(DataError, match="the file's label is 1, but its folder stands for 0"):
        read_merged_folder(tmp_path)


def test_several_bad_files_in_a_folder_then_all_are_listed(tmp_path: Path) -> None:
    """One run shows all that must be repaired."""
    save(tmp_path / "viral" / "1_merged.pt", merged(ids=[*IDS, "c"]))
    save(tmp_path / "viral" / "2_merged.pt", merged(ids=["d", "e"]))
    save(tmp_path / "viral" / "3_merged.pt", {"ids": list(IDS)})
    with pytest.raises(DataError, match=r"(?s)2 of 3 files:.*1_merged\.pt: 3 ids.*3_merged\.pt"):
        read_merged_folder(tmp_path)


def test_files_of_different_width_then_error_names_both(tmp_path: Path) -> None:
    """Features of different models are not mixed."""
    save(tmp_path / "viral" / "1_merged.pt", merged())
    save(tmp_path / "viral" / "2_merged.pt", merged(ids=["c", "d"], data=torch.ones(2, 4)))
    with pytest.raises(
        DataError, match=r"2_merged\.pt: 4 features a row, but .*1_merged\.pt has 3"
    ):
        read_merged_folder(tmp_path)


def test_id_in_two_files_then_error_names_it(tmp_path: Path) -> None:
    """A record that stands twice could not be joined."""
    save(tmp_path / "viral" / "1_merged.pt", merged())
    save(tmp_path / "bacteria" / "1_merged.pt", merged(labels=[0]))
    with pytest.raises(DataError, match="2 ids stand in two of the 2 merged files, such as 'a_ch"):
        read_merged_folder(tmp_path)


def test_folder_without_merged_files_then_missing_input(tmp_path: Path) -> None:
    """The files that were looked for are named."""
    with pytest.raises(MissingInput, match=r"holds no \*_merged\.pt file"):
        read_merged_folder(tmp_path)


def test_folder_that_is_not_there_then_missing_input(tmp_path: Path) -> None:
    """A wrong path is reported as such."""
    with pytest.raises(MissingInput, match="nowhere is not there"):
        read_merged_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("features", [FEATURES[:1], FEATURES[0], FEATURES[:0]])
def test_write_with_rows_that_do_not_fit_then_value_error(
    tmp_path: Path, features: npt.NDArray[np.float32]
) -> None:
    """A file that could not be read is not written."""
    with pytest.raises(ValueError, match="2 ids for features of shape"):
        write_merged(tmp_path / "x_merged.pt", IDS, features)


def test_write_without_rows_then_value_error(tmp_path: Path) -> None:
    """A file without rows could not be read either."""
    with pytest.raises(ValueError, match="0 ids for features of shape"):
        write_merged(tmp_path / "x_merged.pt", [], FEATURES[:0])


def test_write_embeddings_under_another_ending_then_value_error(tmp_path: Path) -> None:
    """The ending decides the format, so it must be one of the two."""
    with pytest.raises(ValueError, match=r"'x\.pt' must end in"):
        write_embeddings(tmp_path / "x.pt", IDS, FEATURES)
