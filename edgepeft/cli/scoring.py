"""`edgepeft run --score`: how likely a bundle holds given completions, instead of an answer of its own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgepeft.cli.answers import each_prompt
from edgepeft.utils.terminal_text import visible_line

if TYPE_CHECKING:
    from edgepeft.cli.answers import Prompt
    from edgepeft.data.prompt_rows import Asked
    from edgepeft.data.rows import Tool
    from edgepeft.data.token_text import TokenTexts
    from edgepeft.runtime import Runtime
    from edgepeft.runtime.logprobs import Score

ScoreOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Instead of answering, print how likely the model holds this completion of the prompt, in nats. "
        "Repeatable; with --json token by token.",
        show_default=False,
    ),
]
RawOption = Annotated[
    bool,
    typer.Option(
        "--raw",
        help="With --score: prompt and completion are plain text, without the chat template.",
    ),
]


def refuse_beside_scores(
    completions: Sequence[str] | None, raw: bool, beside: dict[str, bool]
) -> None:
    """Raise InputError for what does not go with ``--score``, of which ``beside`` says whether it was given, and
    for ``--raw`` without it.
    """
    from edgepeft.errors import InputError

    if not completions:
        if raw:
            raise InputError("--raw: goes with --score")
        return
    for name, given in beside.items():
        if given:
            raise InputError(f"--score: nothing is answered, so leave out {name}")


def print_scores(
    runtime: Runtime,
    prompts: Sequence[Asked],
    completions: Sequence[str],
    system: str | None,
    *,
    raw: bool,
    as_json: bool,
    show_stats: bool,
) -> None:
    """Score each completion of each prompt, given with where it comes from, and print what was found.

    Raises InputError as ``Runtime.score`` does, and for a prompt of two texts.
    """
    from edgepeft.data.token_text import TokenTexts
    from edgepeft.errors import InputError

    texts = TokenTexts(runtime.prompter.tokenizer)
    started, tokens = time.perf_counter(), 0

    def ask(prompt: Prompt, told: str | None, tools: tuple[Tool, ...]) -> list[Score]:
        if tools:
            raise InputError(
                "--score: completions beside tools can't be scored; leave the tools out"
            )
        return [runtime.score(prompt, one, system=told, raw=raw) for one in completions]

    for prompt, found in each_prompt(prompts, system, ask):
        tokens += sum(len(score.prompt_ids) + len(score.tokens) for score in found)
        if as_json:
            scores = [_shown(*one, texts) for one in zip(completions, found, strict=True)]
            line = {"prompt": prompt, "scores": scores}
            print(json.dumps(line, ensure_ascii=False), flush=True)
        else:
            for completion, score in zip(completions, found, strict=True):
                print(f"{score.nats:.4f}  {visible_line(completion)}", flush=True)
    if show_stats:
        seconds = time.perf_counter() - started
        count = len(prompts) * len(completions)
        print(f"{count} completions, {tokens} tokens, {seconds:.1f} s", file=sys.stderr)


def _shown(completion: str, score: Score, texts: TokenTexts) -> dict[str, Any]:
    return {
        "completion": completion,
        "nats": score.nats,
        "tokens": [
            {"id": token.id, "token": texts.text(token.id), "nats": token.logprob}
            for token in score.tokens
        ],
    }
