"""Text that anyone may have written, shown and not obeyed: what would drive a terminal becomes visible.

A manifest, a dataset, a model's name, its answer or a library's error may hold escape sequences, overrides of
the writing direction, or characters that nobody sees. Each is shown as JSON writes it, ``\\u001b``, so that JSON
stays the same JSON on its way. What a stream's encoding has no character for is shown alike.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from typing import TextIO, cast

_UNSAFE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but for line feed and tab
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # seen by nobody
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"  # zero width, line separators, writing direction
    "\u3164\ufeff\uffa0\ufff0-\ufffb"
    "\ud800-\udfff"  # halves of a character
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# Joiners shape emoji and the letters of many scripts. After an ASCII character they only hide.
CONTROLS = re.compile(f"[{_UNSAFE}]|(?<=[\x00-\x7f])[\u200c\u200d]")


def visible(text: str) -> str:
    """The text with every character that acts on a terminal, or hides, as an escape; lines and tabs stay."""
    return CONTROLS.sub(_escaped, text)


def visible_line(text: object) -> str:
    """The same in one line: line feeds and tabs are escaped too."""
    return visible(str(text)).replace("\n", "\\n").replace("\t", "\\t")


def shortened(text: object, most: int = 80) -> str:
    """One visible line of a text of any length, cut to ``most`` characters with a mark where it was."""
    whole = str(text)
    return visible_line(whole if len(whole) <= most else whole[: most - 1] + "…")


def _escaped(match: re.Match[str]) -> str:
    return json.dumps(match.group())[1:-1]


def _without_character(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding lacks; registered with ``codecs``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


ENCODING_ERRORS = "edgepeft.visible"
"""The name of that handler, for ``errors=`` of a stream."""
codecs.register_error(ENCODING_ERRORS, _without_character)


class ReaderGone(Exception):
    """Whoever read our output has closed it. No OSError, so that no library takes it for a failure of its own."""


class GuardedStream(io.TextIOBase):
    """A text stream that writes to ``raw`` as it is, and says in one way that writing failed.

    It has no binary ``buffer``, so nothing can write past it. ``name`` is what an OSError calls it. Raises
    ReaderGone where the reader is gone. One that is ``dispensable``, for talk about the work, fails in silence:
    nobody is left to hear of it, and the work goes on.
    """

    def __init__(self, raw: TextIO, name: str, *, dispensable: bool = False) -> None:
        self._raw = raw
        self._name = name
        self._dispensable = dispensable

    def write(self, text: str) -> int:
        """Write all of ``text``. Raises OSError with the stream's name, ReaderGone."""
        try:
            self._raw.write(self._shown(text))
        except OSError as error:
            self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Hand over what is written. Raises OSError with the stream's name, ReaderGone."""
        try:
            self._raw.flush()
        except OSError as error:
            self._fail(error)

    def _shown(self, text: str) -> str:
        return text

    def _fail(self, error: OSError) -> None:
        if self._dispensable:
            return
        if isinstance(error, BrokenPipeError):
            raise ReaderGone from None
        raise OSError(error.errno, error.strerror, self._name) from None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The raw stream's."""
        return self._raw.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """The raw stream's."""
        return self._raw.errors

    def isatty(self) -> bool:
        """Whether a terminal shows it."""
        return self._raw.isatty()

    def fileno(self) -> int:
        """The raw stream's file descriptor."""
        return self._raw.fileno()

    def writable(self) -> bool:
        """It is."""
        return True


class VisibleStream(GuardedStream):
    """A text stream that shows control characters; ``unfiltered`` is the same one for text that is ours."""

    def _shown(self, text: str) -> str:
        return visible(text)

    @property
    def unfiltered(self) -> GuardedStream:
        """The stream without the filter: for escape sequences of our own, and for data that goes to a file."""
        return GuardedStream(self._raw, self._name, dispensable=self._dispensable)


def unfiltered(stream: TextIO) -> TextIO:
    """What lies behind a VisibleStream, or the stream itself."""
    return cast(TextIO, stream.unfiltered) if isinstance(stream, VisibleStream) else stream
