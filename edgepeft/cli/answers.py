"""Printing answers and what they took."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from edgepeft.cli.tool_options import called, print_called
from edgepeft.utils.terminal_text import unfiltered, visible

if TYPE_CHECKING:
    from edgepeft.data.prompt_rows import Asked
    from edgepeft.data.rows import Message, Tool
    from edgepeft.guidance import Grammar
    from edgepeft.runtime import Completion, Runtime, SamplingParams
    from edgepeft.runtime.answer import Stream

    Prompt = str | list[Message]
    Ask = Callable[[Prompt, str | None, tuple[Tool, ...]], "Found"]
    Found = TypeVar("Found")
    Answered = tuple[Completion, list[dict[str, Any]] | None]


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


def answer_prompt(
    runtime: Runtime,
    stream: Stream,
    prompt: str,
    tools: tuple[Tool, ...],
    *,
    as_json: bool,
    show_stats: bool,
) -> None:
    """Print the answer to one prompt as it comes, or with ``as_json`` as one object; with ``tools`` once it is
    there, for it may be calls.
    """
    if as_json or tools:
        for _ in stream:
            pass
        done = stream.completion()
        if as_json:
            _print_json(prompt, done, called(runtime, done, tools) if tools else None)
        else:
            print_called(runtime, done, tools)
    else:
        print_answer(stream)
    if show_stats:
        print_stats(stream.completion())


def answer_rows(
    runtime: Runtime,
    rows: list[Asked],
    sampling: SamplingParams,
    system: str | None,
    grammar: Grammar | None,
    tools: tuple[Tool, ...] = (),
    *,
    show_stats: bool,
) -> None:
    """Print the answer to each prompt of a file, given with where it comes from, as an object a line.

    ``tools`` are those of prompts that have none of their own. Raises InputError naming the row that can't be
    asked, EdgepeftError when the runtime fails.
    """
    tokens, seconds = 0, 0.0

    def ask(prompt: Prompt, told: str | None, own: tuple[Tool, ...]) -> Answered:
        offered = own or tools
        done = runtime.complete(prompt, sampling, system=told, grammar=grammar, tools=offered)
        return done, called(runtime, done, offered) if offered else None

    for prompt, (done, calls) in each_prompt(rows, system, ask):
        _print_json(prompt, done, calls)
        tokens += len(done.ids)
        seconds += done.prefill_seconds + done.decode_seconds
    if show_stats:
        print(f"{len(rows)} prompts, {tokens} tokens, {seconds:.1f} s", file=sys.stderr)


def each_prompt(
    rows: Iterable[Asked], system: str | None, ask: Ask[Found]
) -> Iterator[tuple[Prompt, Found]]:
    """Each prompt, given with where it comes from, and what ``ask`` finds of it, of the system message that it
    has none of its own beside, and of its own tools.

    Raises InputError naming the row that can't be asked, and as ``ask`` does.
    """
    from edgepeft.data.prompt_rows import TwoTexts, WithTools
    from edgepeft.errors import InputError

    for where, prompt in rows:
        own: tuple[Tool, ...] = ()
        if isinstance(prompt, WithTools):
            prompt, own = prompt
        if isinstance(prompt, TwoTexts):
            raise InputError(f"{where}: has two texts, and this model answers prompts")
        own_system = not isinstance(prompt, str) and prompt[0]["role"] == "system"
        try:
            found = ask(prompt, None if own_system else system, own)
        except InputError as error:
            raise InputError(f"{where}: {error}" if where else str(error)) from None
        yield prompt, found


def _print_json(
    prompt: str | list[Message], done: Completion, calls: list[dict[str, Any]] | None = None
) -> None:
    line: dict[str, Any] = {
        "prompt": prompt,
        "text": done.text,
        "finish_reason": done.finish_reason,
        "tokens": len(done.ids),
        "seconds": round(done.prefill_seconds + done.decode_seconds, 4),
    }
    if calls is not None:
        line["tool_calls"] = calls
    print(json.dumps(line, ensure_ascii=False), flush=True)
