"""The committed support-desk data is what its script writes, and is sound to train and score on."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
TRAIN, TEST = "support-desk.train.csv", "support-desk.test.csv"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_committed_files_are_what_the_script_writes(tmp_path: Path) -> None:
    script = SAMPLES / "make_support_desk.py"
    command = [sys.executable, str(script), "--out-dir", str(tmp_path)]
    subprocess.run(command, check=True)
    for name in (TRAIN, TEST):
        assert (tmp_path / name).read_bytes() == (SAMPLES / "data" / name).read_bytes(), name
    subprocess.run([*command, "--seed", "1"], check=True)
    assert (tmp_path / TEST).read_bytes() != (SAMPLES / "data" / TEST).read_bytes()


def test_rows_are_enough_distinct_and_held_apart() -> None:
    train, test = rows(SAMPLES / "data" / TRAIN), rows(SAMPLES / "data" / TEST)
    assert (len(train), len(test)) == (960, 200)
    messages = [row["input"] for row in (*train, *test)]
    assert len(set(messages)) == len(messages)
    # Every ticket that is asked for was taught, and no single one makes up the task.
    tickets = [row["output"] for row in test]
    assert set(tickets) <= {row["output"] for row in train}
    assert max(map(tickets.count, set(tickets))) < 0.05 * len(tickets)
    assert all(len(ticket.split("; ")) == 4 for ticket in tickets)
