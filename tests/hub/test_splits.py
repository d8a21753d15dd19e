"""The files of a split: by a card's configs, by the usual names, and what is refused."""

from __future__ import annotations

import pytest

from edgepeft.errors import InputError
from edgepeft.hub.metadata import front_matter
from edgepeft.hub.splits import files_of_split

SEVERAL = """---
license: mit
configs:
- config_name: en
  data_files:
  - {split: train, path: "en/*.jsonl"}
  - {split: held_out, path: [en/extra/last.csv]}
- config_name: de
  data_dir: german
  data_files: {train: "**/*.parquet"}
---
# Rows
"""
NAMES = ["README.md", "en/a.jsonl", "en/b.jsonl", "en/extra/c.jsonl", "en/extra/last.csv"]


@pytest.mark.parametrize(
    ("names", "split", "files"),
    [
        (["data/train-00000-of-00001.parquet"], "train", ["data/train-00000-of-00001.parquet"]),
        (["train.jsonl", "test.jsonl"], "test", ["test.jsonl"]),
        (["my_training_rows.csv", "dev.csv"], "train", ["my_training_rows.csv"]),
        (["my_training_rows.csv", "dev.csv"], "validation", ["dev.csv"]),
        (["train/0.json", "test/0.json"], "test", ["test/0.json"]),
        (["rows.jsonl", "README.md"], "train", ["rows.jsonl"]),
        (["train.csv", "train.parquet", "train.jsonl"], "train", ["train.parquet"]),
        (["d/hard-00001-of-00002.parquet", "d/hard-00000-of-00002.parquet"], "hard",
         ["d/hard-00000-of-00002.parquet", "d/hard-00001-of-00002.parquet"]),
        (["default/train/0000.parquet", "default/test/0000.parquet"], "default/train",
         ["default/train/0000.parquet"]),
        # A word inside a longer one names no split.
        (["contest.jsonl", "trainer.jsonl"], "train", ["contest.jsonl", "trainer.jsonl"]),
    ],
)  # fmt: skip
def test_usual_names(names: list[str], split: str, files: list[str]) -> None:
    assert files_of_split(names, "", split, "x") == files


def test_a_card_says_where_a_split_is() -> None:
    assert files_of_split(NAMES, SEVERAL, "en/train", "x") == ["en/a.jsonl", "en/b.jsonl"]
    assert files_of_split(NAMES, SEVERAL, "en/held_out", "x") == ["en/extra/last.csv"]
    german = ["german/x/1.parquet", "german/2.parquet", "other/3.parquet"]
    assert files_of_split(german, SEVERAL, "de/train", "x") == [
        "german/2.parquet",
        "german/x/1.parquet",
    ]


def test_the_default_subset_is_taken_where_none_is_named() -> None:
    flagged = SEVERAL.replace("config_name: en", "config_name: en\n  default: true")
    assert files_of_split(NAMES, flagged, "train", "x") == ["en/a.jsonl", "en/b.jsonl"]


@pytest.mark.parametrize(
    ("names", "card", "split", "said"),
    [
        (NAMES, SEVERAL, "train", "x: has several subsets (en, de); name one, as #en/train"),
        (NAMES, SEVERAL, "fr/train", "no subset fr"),
        (NAMES, SEVERAL, "en/trian", "no split trian; did you mean train?; it has train, held_out"),
        (NAMES, SEVERAL, "de/train", "there are none"),
        (["train.jsonl", "test.jsonl"], "", "tset", "did you mean test?; it has test, train"),
        (["train.jsonl"], "", "test", "it has train"),
        (["train.arrow", "rows.py"], "", "train", "@refs/convert/parquet"),
    ],
)
def test_what_there_is_not_is_told(names: list[str], card: str, split: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        files_of_split(names, card, split, "x")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "card", ["", "# Rows", "---\n- a\n---\n", "---\n!!python/name:os.system\n---\n"]
)
def test_a_card_without_metadata_says_nothing(card: str) -> None:
    assert front_matter(card) == {}
