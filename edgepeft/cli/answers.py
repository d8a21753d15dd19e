"""Printing answers and what they took."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgepeft.utils.terminal_text import unfiltered, visible

if TYPE_CHECKING:
    from edgepeft.runtime import Completion


def print_answer(pieces: Iterator[str]) -> None:
    """Write an answer to stdout as it comes, and end its line even when it is interrupted.

    A terminal shows control characters instead of obeying them; a file or a pipe gets the answer as it is.
    """
    out, on_terminal = unfiltered(sys.stdout), sys.stdout.isatty()
    try:
        for piece in pieces:
            out.write(visible(piece) if on_terminal else piece)
            out.flush()
    finally:
        out.write("\n")
        out.flush()


def print_stats(done: Completion) -> None:
    """Write an answer's speed to stderr."""
    print(
        f"{len(done.ids)} tokens, {done.tokens_per_second:.1f} tokens/s, first token after "
        f"{done.prefill_seconds:.2f} s ({len(done.prompt_ids)} prompt tokens)",
        file=sys.stderr,
    )
