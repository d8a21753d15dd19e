"""`edgepeft run`: ask a bundle one prompt, a file of prompts, or chat with it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edgepeft.data.rows import Message
    from edgepeft.runtime import Completion, Runtime


def command(
    bundle: Annotated[Path, typer.Argument(help="The bundle folder.", show_default=False)],
    prompt: Annotated[
        str | None,
        typer.Argument(
            help="What to ask; - reads it from stdin. Without it: chat, or stdin if it is no "
            "terminal.",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help='Ask every line of a JSON Lines file: {"prompt": …} or {"messages": […]}; or {"text": …}.',
            show_default=False,
        ),
    ] = None,
    system: Annotated[str | None, typer.Option(help="System message.", show_default=False)] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest token; above it, samples.")
    ] = 0.0,
    top_k: Annotated[int, typer.Option(help="Sample from the k likeliest; 0: from all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Sample from the likeliest share p.")] = 1.0,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1 discourages repeating tokens.")
    ] = 1.0,
    seed: Annotated[
        int | None, typer.Option(help="Makes sampling repeatable.", show_default=False)
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="End the answer before this string (repeatable).", show_default=False),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; onnxruntime's choice by default.")
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            help="Answer with this adapter of a hot-swap bundle; base: with none, as by default.",
            show_default=False,
        ),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(help="Run elsewhere than the bundle was built for, e.g. cpu."),
    ] = None,
    speculate: Annotated[
        bool,
        typer.Option(
            "--speculate",
            help="Guess tokens from the prompt and earlier answers and read several at once: faster where "
            "answers are alike.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    stats: Annotated[
        bool | None,
        typer.Option(
            "--stats/--no-stats",
            help="Speed on stderr; by default where that is a terminal.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Compare every file's SHA-256 first.")
    ] = True,
) -> None:
    """Ask a bundle one prompt, a file of prompts, or chat with it.

    A classifier prints labels with scores or labelled words, an embedding model a vector. Answers go
    to stdout as they come, everything else to stderr.
    \f
    Raises InputError, MissingError and EdgepeftError as the runtime does, InterruptedRun when
    Ctrl-C ends an answer for good.
    """
    from edgepeft.errors import InputError, InterruptedRun
    from edgepeft.runtime import Bundle, Runtime
    from edgepeft.runtime.adapters import BASE, open_adapter
    from edgepeft.tasks import GENERATION

    if prompts is not None and prompt is not None:
        raise InputError("run: give either a prompt or --prompts, not both")
    rows = _read_prompts(prompts) if prompts is not None else None
    interactive = prompts is None and prompt is None and sys.stdin.isatty()
    if as_json and interactive:
        raise InputError("run: --json needs a prompt, as an argument or on stdin")
    opened = Bundle.open(bundle, check="hashes" if check else "sizes")
    if opened.warning:
        print(f"warning: {opened.warning}", file=sys.stderr)
    if opened.task != GENERATION:
        from edgepeft.cli.read import read_texts

        if interactive:
            raise InputError(f"run: {opened.task} needs a text, as an argument or on stdin")
        texts = [(where, _only_text(asked, where)) for where, asked in rows or ()]
        if rows is None:
            texts = [("", prompt if prompt not in (None, "-") else _read_stdin())]
        read_texts(
            opened,
            texts,
            threads=threads,
            provider=provider,
            as_json=as_json or rows is not None,
            show_stats=sys.stderr.isatty() if stats is None else stats,
        )
        return
    runtime = Runtime(opened, threads=threads, provider=provider, speculate=speculate)
    if adapter is not None and adapter != BASE:
        chosen = open_adapter(opened, adapter, check="hashes" if check else "sizes")
        if chosen.warning:
            print(f"warning: {chosen.warning}", file=sys.stderr)
        runtime.swap_adapter(adapter)
    settings: dict[str, Any] = {
        "system": system,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "stop": stop or [],
    }
    show_stats = sys.stderr.isatty() if stats is None else stats
    try:
        if interactive:
            from edgepeft.cli.chat import chat

            chat(runtime, settings, show_stats=show_stats)
        elif rows is not None:
            _answer_rows(runtime, rows, settings, show_stats=show_stats)
        else:
            text = prompt if prompt not in (None, "-") else _read_stdin()
            _answer(runtime, text or "", settings, as_json=as_json, show_stats=show_stats)
    except KeyboardInterrupt:
        raise InterruptedRun("run: interrupted") from None


def print_answer(pieces: Iterator[str]) -> None:
    """Write an answer to stdout as it comes, and end its line even when it is interrupted."""
    # A model must not be able to drive the user's terminal.
    unsafe = _CONTROLS if sys.stdout.isatty() else {}
    try:
        for piece in pieces:
            sys.stdout.write(piece.translate(unsafe))
            sys.stdout.flush()
    finally:
        sys.stdout.write("\n")
        sys.stdout.flush()


def print_stats(done: Completion) -> None:
    """Write an answer's speed to stderr."""
    print(
        f"{len(done.ids)} tokens, {done.tokens_per_second:.1f} tokens/s, first after "
        f"{done.prefill_seconds:.2f} s ({len(done.prompt_ids)} prompt tokens)",
        file=sys.stderr,
    )


_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def _answer(
    runtime: Runtime, prompt: str, settings: dict[str, Any], *, as_json: bool, show_stats: bool
) -> None:
    stream = runtime.stream(prompt, **settings)
    if as_json:
        for _ in stream:
            pass
        _print_json(prompt, stream.completion())
    else:
        print_answer(stream)
    if show_stats:
        print_stats(stream.completion())


def _answer_rows(
    runtime: Runtime,
    rows: list[tuple[str, str | list[Message]]],
    settings: dict[str, Any],
    *,
    show_stats: bool,
) -> None:
    from edgepeft.errors import InputError

    tokens, seconds = 0, 0.0
    for where, prompt in rows:
        own_system = not isinstance(prompt, str) and prompt[0]["role"] == "system"
        row_settings = {**settings, "system": None} if own_system else settings
        try:
            done = runtime.complete(prompt, **row_settings)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        _print_json(prompt, done)
        tokens += len(done.ids)
        seconds += done.prefill_seconds + done.decode_seconds
    if show_stats:
        print(f"{len(rows)} prompts, {tokens} tokens, {seconds:.1f} s", file=sys.stderr)


def _print_json(prompt: str | list[Message], done: Completion) -> None:
    line = {
        "prompt": prompt,
        "text": done.text,
        "finish_reason": done.finish_reason,
        "tokens": len(done.ids),
        "seconds": round(done.prefill_seconds + done.decode_seconds, 4),
    }
    print(json.dumps(line, ensure_ascii=False), flush=True)


def _read_stdin() -> str:
    from edgepeft.errors import InputError

    try:
        text = sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError:
        raise InputError("stdin: holds bytes that are not UTF-8; save it as UTF-8") from None
    if not text.strip():
        raise InputError("stdin: no prompt came; give one as an argument or on stdin")
    return text


def _read_prompts(path: Path) -> list[tuple[str, str | list[Message]]]:
    """(where, prompt or messages) of every row; all are checked before the first is answered."""
    from edgepeft.data.prompt_rows import read_prompts

    rows, warnings = read_prompts(path)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return rows


def _only_text(asked: str | list[Message], where: str) -> str:
    from edgepeft.errors import InputError

    if not isinstance(asked, str):
        raise InputError(f'{where}: this model reads single texts; write {{"text": ...}}')
    return asked
