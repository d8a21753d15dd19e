"""The committed home-control data is what its script writes, and is sound to train and score on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
SCRIPT = SAMPLES / "make_home_control.py"
TRAIN = "home-control.train.jsonl"
TEST = "home-control.test.jsonl"
KEYS = ["device", "room", "action", "value"]

Row = dict[str, str]


def generate(out_dir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a user would, in its own process."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--out-dir", str(out_dir), *options],
        capture_output=True,
        text=True,
        check=False,
    )


def rows(path: Path) -> list[Row]:
    """Read a JSONL file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    parsed: list[Row] = [json.loads(line) for line in lines]
    return parsed


def bare(prompt: str) -> str:
    """Fold away case and everything that is not a letter, a digit or a single space."""
    return " ".join(re.sub(r"[^a-z0-9 ]+", "", prompt.lower()).split())


@pytest.fixture(scope="module")
def train() -> list[Row]:
    return rows(SAMPLES / "data" / TRAIN)


@pytest.fixture(scope="module")
def held_out() -> list[Row]:
    return rows(SAMPLES / "data" / TEST)


def test_the_committed_files_are_what_the_script_writes(tmp_path: Path) -> None:
    done = generate(tmp_path)
    assert done.returncode == 0, done.stderr
    for name in (TRAIN, TEST):
        assert (tmp_path / name).read_bytes() == (SAMPLES / "data" / name).read_bytes(), name


def test_another_seed_writes_other_data(tmp_path: Path) -> None:
    assert generate(tmp_path, "--seed", "1").returncode == 0
    for name in (TRAIN, TEST):
        assert (tmp_path / name).read_bytes() != (SAMPLES / "data" / name).read_bytes(), name


def test_the_test_rows_do_not_depend_on_the_train_size(tmp_path: Path) -> None:
    assert generate(tmp_path, "--train", "40").returncode == 0
    assert len(rows(tmp_path / TRAIN)) == 40
    assert (tmp_path / TEST).read_bytes() == (SAMPLES / "data" / TEST).read_bytes()


def test_counts(train: list[Row], held_out: list[Row]) -> None:
    assert len(train) >= 800
    assert len(held_out) >= 200


def test_no_prompt_occurs_twice(train: list[Row], held_out: list[Row]) -> None:
    train_prompts = [bare(row["prompt"]) for row in train]
    test_prompts = [bare(row["prompt"]) for row in held_out]
    assert len(set(train_prompts)) == len(train_prompts)
    assert len(set(test_prompts)) == len(test_prompts)
    assert not set(train_prompts) & set(test_prompts)


def test_every_row_is_a_short_prompt_and_a_completion(
    train: list[Row], held_out: list[Row]
) -> None:
    for row in train + held_out:
        assert list(row) == ["prompt", "completion"]
        assert 6 <= len(row["prompt"].split()) <= 16, row


def test_every_completion_is_canonical_json_of_the_four_keys(
    train: list[Row], held_out: list[Row]
) -> None:
    for row in train + held_out:
        answer = json.loads(row["completion"])
        assert list(answer) == KEYS, row
        assert json.dumps(answer) == row["completion"]
        assert all(isinstance(answer[key], str) for key in KEYS[:3]), row
        assert answer["value"] is None or type(answer["value"]) in (int, float, str), row


def test_room_and_value_are_copied_from_the_prompt(train: list[Row], held_out: list[Row]) -> None:
    """Nothing has to be guessed: what the answer states, the prompt states, and the reverse."""
    for row in train + held_out:
        answer = json.loads(row["completion"])
        prompt = row["prompt"].lower()
        assert re.search(rf"\b{answer['room']}\b", prompt), row
        numbers = re.findall(r"\d+(?:\.\d+)?", prompt)
        if isinstance(answer["value"], int | float):
            assert numbers == [str(answer["value"])], row
        else:
            assert numbers == [], row
        if isinstance(answer["value"], str):
            assert re.search(rf"\b{answer['value']}\b", prompt), row


def test_the_test_rows_use_only_slots_seen_in_training(
    train: list[Row], held_out: list[Row]
) -> None:
    for key in KEYS[:3]:
        seen = {json.loads(row["completion"])[key] for row in train}
        assert {json.loads(row["completion"])[key] for row in held_out} <= seen
    devices = {json.loads(row["completion"])["device"] for row in train}
    rooms = {json.loads(row["completion"])["room"] for row in train}
    actions = {json.loads(row["completion"])["action"] for row in train}
    assert len(devices) >= 12
    assert len(rooms) >= 10
    assert len(actions) >= 8


def test_a_negative_count_is_a_usage_error(tmp_path: Path) -> None:
    done = generate(tmp_path, "--train", "-1")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
