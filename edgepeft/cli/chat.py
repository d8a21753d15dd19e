"""Chatting with a bundle in a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from edgepeft.cli.answers import print_answer, print_stats
from edgepeft.errors import EdgepeftError, InputError

if TYPE_CHECKING:
    from edgepeft.data.rows import Message
    from edgepeft.guidance import Grammar
    from edgepeft.runtime import Runtime
    from edgepeft.runtime.answer import Stream
    from edgepeft.runtime.sampling_params import SamplingParams

HELP = """/reset  clear the conversation
/exit   leave (as do Ctrl-D, and Ctrl-C twice)
/help   this list
Ctrl-C stops the answer. To send a message that begins with /, put a space before it."""


def chat(
    runtime: Runtime,
    sampling: SamplingParams,
    system: str | None,
    grammar: Grammar | None = None,
    *,
    show_stats: bool,
) -> None:
    """Read messages from the terminal and answer each in the light of those before, within ``grammar``.

    Returns when the user leaves; an answer that was stopped stays in the conversation as far as it came, one that
    failed does not.
    """
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (importing it gives input() a history and editing keys)
    _say(f"{runtime.bundle.base}, {runtime.bundle.target}. /help lists the commands.")
    ask = partial(runtime.stream, sampling=sampling, system=system, grammar=grammar)
    messages: list[Message] = []
    interrupted = False
    while True:
        try:
            text = input("> ")
        except EOFError:
            print()
            return
        except UnicodeDecodeError:
            _say("That was not text in UTF-8. Please type it again.")
            continue
        except KeyboardInterrupt:
            print()
            if interrupted:
                return
            interrupted = True
            _say("Press Ctrl-C again to leave.")
            continue
        interrupted = False
        if text.startswith("/"):
            if text in ("/exit", "/quit"):
                return
            if text == "/reset":
                messages.clear()
            _say("Cleared." if text == "/reset" else HELP)
        elif text.strip():
            interrupted = _turn(ask, messages, text.strip(), show_stats)


def _turn(
    ask: Callable[[list[Message]], Stream], messages: list[Message], text: str, show_stats: bool
) -> bool:
    """Answer ``text`` and add both to ``messages``; True when Ctrl-C stopped the answer."""
    messages.append({"role": "user", "content": text})
    try:
        stream = ask(messages)
    except InputError as error:
        messages.pop()
        _say(f"{error} (/reset clears the conversation)")
        return False
    stopped = False
    try:
        print_answer(stream)
    except KeyboardInterrupt:
        stopped = True
        stream.close()
    except EdgepeftError as error:
        # What was printed of it ends in the middle of a line.
        print()
        messages.pop()
        _say(f"{error} (the conversation is as it was before)")
        return False
    done = stream.completion()
    messages.append({"role": "assistant", "content": done.text})
    if show_stats:
        print_stats(done)
    return stopped


def _say(text: str) -> None:
    print(text, file=sys.stderr)
