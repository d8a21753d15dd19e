"""What is an id of the hub, and what is a path or something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepeft.errors import InputError
from edgepeft.hub.ids import Origin, RepoId, RowsId, origin_of, parse_id, parse_rows


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("org/name", RepoId("org/name")),
        ("org/name@v1.0", RepoId("org/name", "v1.0")),
        ("org/name@refs/pr/3", RepoId("org/name", "refs/pr/3")),
        ("org/name@feature%2Fx", RepoId("org/name", "feature/x")),
    ],
)
def test_ids(text: str, meant: RepoId) -> None:
    assert parse_id(text) == meant


@pytest.mark.parametrize(
    "text",
    ["name", "./name", "../name", "~/name", "/org/name", "a/b/c", "org/", "org/name@", "C:\\a"],
)
def test_paths_are_no_ids(text: str) -> None:
    assert parse_id(text) is None


DATASET = RepoId("org/name", None, "dataset")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("hf://datasets/org/name/train.jsonl", RowsId(DATASET, "train.jsonl")),
        ("hf://datasets/org/name/a/b c.csv", RowsId(DATASET, "a/b c.csv")),
        ("hf://datasets/org/name#train", RowsId(DATASET, split="train")),
        ("hf://datasets/org/name#en/train", RowsId(DATASET, split="en/train")),
        (
            "hf://datasets/org/name@refs/convert/parquet/default/train/0000.parquet",
            RowsId(
                RepoId("org/name", "refs/convert/parquet", "dataset"), "default/train/0000.parquet"
            ),
        ),
        ("hf://datasets/org/name@v1/x.json", RowsId(RepoId("org/name", "v1", "dataset"), "x.json")),
    ],
)
def test_rows(text: str, meant: RowsId) -> None:
    assert parse_rows(text) == meant


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hf://org/name/x.json", "write it as"),
        ("hf://datasets/squad#train", "write it as"),
        ("hf://datasets/org/name", "says neither file nor split"),
        ("hf://datasets/org/name/x.json#train", "says a file and a split"),
    ],
)
def test_rows_that_name_nothing(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_rows(text)


def test_a_folder_of_the_cache_says_where_it_came_from() -> None:
    path = Path("/c/datasets--org--my-name/snapshots/abc/data/train.jsonl")
    assert origin_of(path) == Origin("org/my-name", "abc", "dataset")
    assert origin_of(Path("/models/org/name")) is None
