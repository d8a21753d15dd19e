"""Text that anyone wrote is shown and acts on nothing."""

from __future__ import annotations

import io
import json
import unicodedata
from typing import TextIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepeft.utils.terminal_text import (
    ENCODING_ERRORS,
    ReaderGone,
    VisibleStream,
    shortened,
    unfiltered,
    visible,
    visible_line,
)

PRINTED = {0x600, 0x601, 0x602, 0x603, 0x604, 0x605, 0x6DD, 0x70F, 0x890, 0x891, 0x8E2}
"""Format characters of Unicode that have a shape of their own; so have 110BD, 110CD and Egyptian joiners."""


def test_every_character_that_acts_or_hides_is_shown() -> None:
    """All of Unicode's control, format and separator characters, and halves of characters."""
    for code in range(0x110000):
        character = chr(code)
        hides = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        if code in PRINTED or code in (0x110BD, 0x110CD) or 0x13430 <= code <= 0x1343F:
            hides = False
        shown = visible(f"a{character}")
        if character in "\n\t":
            assert shown == f"a{character}"
        elif hides:
            assert shown.isascii(), hex(code)
            assert "\\u" in shown or shown in (r"a\r", r"a\b", r"a\f"), hex(code)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\u001b[2J\u001b]0;title\u0007"),
        ("\x9b31m\x7f", r"\u009b31m\u007f"),
        ("user\u202egnp.exe", r"user\u202egnp.exe"),
        ("a\u200bb\u2066c\ufeff", r"a\u200bb\u2066c\ufeff"),
        ("cpu\u200dint4", r"cpu\u200dint4"),
        ("\U000e0041", r"\udb40\udc41"),
        ("100 %\r0 %", r"100 %\r0 %"),
        ("\udcff", r"\udcff"),
        ("über 日本語 👩\u200d👧 می\u200cخواهم", "über 日本語 👩\u200d👧 می\u200cخواهم"),
        ("[red]x[/red] :skull:", "[red]x[/red] :skull:"),
        ("one\ntwo\tthree", "one\ntwo\tthree"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown
    assert visible_line(text) == shown.replace("\n", "\\n").replace("\t", "\\t")


def test_a_long_text_is_cut() -> None:
    assert shortened("x" * 1000, 10) == "x" * 9 + "…"
    assert shortened("a\nb") == r"a\nb"


@given(st.dictionaries(st.text(), st.text()))
def test_json_stays_the_same_json(value: dict[str, str]) -> None:
    """Escapes are those of JSON, so an object may pass the filter in whichever form it was written."""
    for ascii_only in (True, False):
        assert json.loads(visible(json.dumps(value, ensure_ascii=ascii_only))) == value


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_no_encoding_lacks_a_character(encoding: str) -> None:
    value = {"text": "é → 日 🙂 \x9d"}
    raw = io.BytesIO()
    stream = VisibleStream(io.TextIOWrapper(raw, encoding, errors=ENCODING_ERRORS), "output")
    stream.write(json.dumps(value, ensure_ascii=False))
    stream.flush()
    assert json.loads(raw.getvalue().decode(encoding)) == value


class Failing(io.StringIO):
    """A stream that the operating system refuses to write to."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        raise self._error


def test_a_stream_says_which_one_failed_and_a_reader_that_left_is_no_failure() -> None:
    with pytest.raises(OSError, match="standard output") as caught:
        VisibleStream(Failing(OSError(28, "full")), "standard output").write("x")
    assert caught.value.errno == 28
    with pytest.raises(ReaderGone):
        VisibleStream(Failing(BrokenPipeError()), "standard output").write("x")


def test_data_goes_behind_the_filter() -> None:
    raw = io.StringIO()
    stream = cast(TextIO, VisibleStream(raw, "standard output"))
    stream.write("\x1b")
    unfiltered(stream).write("\x1b")
    assert raw.getvalue() == "\\u001b\x1b"
    assert unfiltered(raw) is raw
    assert getattr(stream, "buffer", None) is None


def test_bars_of_the_hub_repaint_their_line_and_show_names(monkeypatch: pytest.MonkeyPatch) -> None:
    client = pytest.importorskip("huggingface_hub.utils")
    from edgepeft.utils.hub_progress import hub_bars

    # Whoever wants the client quiet makes it so for the whole process.
    client.enable_progress_bars()
    raw = io.StringIO()
    monkeypatch.setattr("sys.stderr", VisibleStream(raw, "standard error"))
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    with hub_bars()(total=2, desc="model\x1b[2J.bin", disable=False) as bar:
        bar.update(2)
    assert "\r" in raw.getvalue()
    assert "\x1b[2J" not in raw.getvalue()
    assert r"model\u001b[2J.bin" in raw.getvalue()
