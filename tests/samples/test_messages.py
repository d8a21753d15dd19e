"""The committed messages are what their script writes, and are sound to train and score on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
NAMES = ("message-team", "message-words", "message-pairs")


def rows(name: str, split: str) -> list[dict[str, Any]]:
    text = (SAMPLES / "data" / f"{name}.{split}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_the_committed_files_are_what_the_script_writes(tmp_path: Path) -> None:
    command = [sys.executable, str(SAMPLES / "make_messages.py"), "--out-dir", str(tmp_path)]
    subprocess.run(command, check=True)
    for name in NAMES:
        for split in ("train", "test"):
            file = f"{name}.{split}.jsonl"
            assert (tmp_path / file).read_bytes() == (SAMPLES / "data" / file).read_bytes(), file


def test_labels_of_the_test_rows_were_all_taught() -> None:
    train, test = ({row["label"] for row in rows("message-team", s)} for s in ("train", "test"))
    assert test <= train
    assert len(train) == 6
    texts = [row["text"] for s in ("train", "test") for row in rows("message-team", s)]
    assert len(set(texts)) == len(texts)


def test_tags_are_of_the_words_they_should_be() -> None:
    found: dict[str, set[str]] = {}
    for row in rows("message-words", "train"):
        assert len(row["tokens"]) == len(row["tags"])
        for word, tag in zip(row["tokens"], row["tags"], strict=True):
            found.setdefault(tag, set()).add(word)
    assert {"camera", "lock"} <= found["I-product"]
    assert all(word.isdigit() and len(word) == 5 for word in found["B-order"])
    assert "June" in found["B-month"]
    assert not found["O"] & found["B-month"]


def test_pairs_differ_and_no_message_comes_twice() -> None:
    pairs = [row for s in ("train", "test") for row in rows("message-pairs", s)]
    texts = [text for row in pairs for text in (row["anchor"], row["positive"])]
    assert len(set(texts)) == len(texts) == 1200
