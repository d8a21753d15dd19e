"""Wrapped lines stand under the words, not under their names."""

from __future__ import annotations

import pytest

from edgepeft_tui.plain_text import plain
from edgepeft_tui.widgets.hanging import Hanging
from edgepeft_tui.words import HANG, marked, pairs

LINES = [("for", "any CPU; lossless: the codes of training"), ("provider", "CPU [now]")]


@pytest.mark.parametrize("width", [24, 30, 44, 200])
def test_no_word_stands_left_of_its_column(width: int) -> None:
    shown = Hanging(pairs(LINES, 9)).at(width).plain.split("\n")
    assert all(len(line) <= width for line in shown)
    assert [line[:9].strip() for line in shown if line[:9].strip()] == ["for", "provider"]
    words = " ".join(line[9:].strip() for line in shown)
    assert words.split() == " ".join(text for _, text in LINES).split()
    assert Hanging(pairs(LINES, 9)).get_height({}, width) == len(shown)


def test_where_there_is_no_room_beside_the_name_lines_begin_at_the_edge() -> None:
    shown = Hanging(pairs(LINES, 9)).at(14).plain
    assert HANG not in shown
    assert "any CPU; lossless" in shown


def test_marks_stay_to_the_left_and_typed_signs_are_dropped() -> None:
    lines = Hanging(marked("warning", plain(f"one {HANG} two three"))).at(14).plain.split("\n")
    assert lines[0].startswith("! one")
    # A sign of ours that somebody has typed is text like any other.
    assert "\\u2060" in "".join(lines)
