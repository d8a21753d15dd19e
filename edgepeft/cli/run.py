"""`edgepeft run`: ask a bundle one prompt, a file of prompts, or chat with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgepeft.cli.answers import answer_prompt, answer_rows
from edgepeft.cli.bundles import (
    BundleArgument,
    CheckOption,
    ProviderOption,
    SwappedOption,
    ThreadsOption,
    open_bundle,
    warn,
)
from edgepeft.cli.grammar_options import (
    ChoicesOption,
    FreeOption,
    GrammarOption,
    RegexOption,
    SchemaOption,
    grammar_of,
)
from edgepeft.cli.scoring import RawOption, ScoreOption, refuse_beside_scores
from edgepeft.cli.tool_options import ToolsOption, tools_of
from edgepeft.runtime.sampling_params import HELP, SamplingParams

if TYPE_CHECKING:
    from edgepeft.data.prompt_rows import Asked, TwoTexts, WithTools
    from edgepeft.data.rows import Message


def command(
    bundle: BundleArgument,
    prompt: Annotated[
        str | None,
        typer.Argument(
            help="The prompt; - reads it from stdin. Without it: chat, or read stdin if that is not a "
            "terminal.",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help='Answer every line of a JSON Lines file: {"prompt": …}, {"messages": […]} or {"text": …}; for '
            'two texts {"text": …, "text_pair": …} or {"query": …, "passage": …}.',
            show_default=False,
        ),
    ] = None,
    pair: Annotated[
        list[str] | None,
        typer.Option(
            help="Second text for a bundle that reads two together: a ranker's passage, several times to rank "
            "several.",
            show_default=False,
        ),
    ] = None,
    system: Annotated[str | None, typer.Option(help="System message.", show_default=False)] = None,
    max_new_tokens: Annotated[
        int, typer.Option(help=HELP["max_new_tokens"])
    ] = SamplingParams.max_new_tokens,
    temperature: Annotated[
        float, typer.Option(help=HELP["temperature"])
    ] = SamplingParams.temperature,
    top_k: Annotated[int, typer.Option(help=HELP["top_k"])] = SamplingParams.top_k,
    top_p: Annotated[float, typer.Option(help=HELP["top_p"])] = SamplingParams.top_p,
    repetition_penalty: Annotated[
        float, typer.Option(help=HELP["repetition_penalty"])
    ] = SamplingParams.repetition_penalty,
    seed: Annotated[
        int | None, typer.Option(help=HELP["seed"], show_default=False)
    ] = SamplingParams.seed,
    stop: Annotated[
        list[str] | None,
        typer.Option(help=HELP["stop"], show_default=False),
    ] = None,
    threads: ThreadsOption = None,
    adapter: SwappedOption = None,
    provider: ProviderOption = None,
    speculate: Annotated[
        bool,
        typer.Option(
            "--speculate",
            help="Speculative decoding: guess tokens from the prompt and earlier answers. Faster where answers "
            "are alike.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    stats: Annotated[
        bool | None,
        typer.Option(
            "--stats/--no-stats",
            help="Print the speed on stderr; default: if stderr is a terminal.",
            show_default=False,
        ),
    ] = None,
    check: CheckOption = True,
    json_schema: SchemaOption = None,
    regex: RegexOption = None,
    grammar: GrammarOption = None,
    choices: ChoicesOption = None,
    free: FreeOption = False,
    tools: ToolsOption = None,
    score: ScoreOption = None,
    raw: RawOption = False,
) -> None:
    """Answer one prompt or a file of prompts with a bundle, or chat with it.

    A classifier prints labels with scores or labelled words, an embedding model a vector. Answers are streamed to
    stdout, everything else goes to stderr.
    \f
    Raises InputError, MissingError and EdgepeftError as the runtime does, InterruptedRun when
    Ctrl-C ends an answer for good.
    """
    from edgepeft.errors import InputError, InterruptedRun
    from edgepeft.models.tasks import GENERATION
    from edgepeft.runtime import Runtime
    from edgepeft.runtime.adapters import BASE, open_adapter

    if prompts is not None and prompt is not None:
        raise InputError("run: give a prompt or --prompts, not both")
    if prompts is not None and pair:
        raise InputError(
            "run: give --pair or --prompts, not both: its rows hold their second texts"
        )
    rows = _read_prompts(prompts) if prompts is not None else None
    interactive = prompts is None and prompt is None and sys.stdin.isatty()
    if as_json and interactive:
        raise InputError("run: --json needs a prompt, as an argument or on stdin")
    bound = grammar_of(json_schema, regex, grammar, choices, free)
    offered = tools_of(tools, refused={"a chat": interactive, "--score": bool(score)})
    refuse_beside_scores(
        score,
        raw,
        {
            "what bounds an answer": bound is not None,
            "--stop": bool(stop),
            "--speculate": speculate,
            "how tokens are chosen": SamplingParams()
            != SamplingParams(max_new_tokens, temperature, top_k, top_p, repetition_penalty, seed),
            "--system, for raw text has no roles": raw and system is not None,
        },
    )
    if score and interactive:
        raise InputError("--score: needs a prompt, as an argument or on stdin")
    opened = open_bundle(bundle, check=check)
    warn(opened.warning)
    if opened.task != GENERATION:
        from edgepeft.cli.read import read_texts

        if bound is not None:
            raise InputError(f"run: {opened.task} makes no text that a grammar could bound")
        if offered:
            raise InputError(f"--tools: {opened.task} makes no text, and so no calls; leave it out")
        if score:
            raise InputError(
                f"--score: {opened.task} makes no text whose likelihood could be told; leave it out"
            )
        if interactive:
            raise InputError(f"run: {opened.task} needs a text, as an argument or on stdin")
        texts = [(where, *_texts(asked, where)) for where, asked in rows or ()]
        if rows is None:
            texts = [("", _one_prompt(prompt), tuple(pair or ()))]
        read_texts(
            opened,
            texts,
            threads=threads,
            provider=provider,
            as_json=as_json or rows is not None,
            show_stats=sys.stderr.isatty() if stats is None else stats,
        )
        return
    if pair:
        raise InputError(
            f"run: --pair is for bundles that read two texts, and {bundle} answers prompts"
        )
    sampling = SamplingParams(
        max_new_tokens, temperature, top_k, top_p, repetition_penalty, seed, stop or ()
    )
    runtime = Runtime(opened, threads=threads, provider=provider, speculate=speculate)
    if adapter is not None and adapter != BASE:
        chosen = open_adapter(opened, adapter, check="hashes" if check else "sizes")
        warn(chosen.warning)
        runtime.swap_adapter(adapter)
    show_stats = sys.stderr.isatty() if stats is None else stats
    try:
        if score:
            from edgepeft.cli.scoring import print_scores

            asked = rows if rows is not None else [("", _one_prompt(prompt))]
            as_rows = as_json or rows is not None
            print_scores(
                runtime, asked, score, system, raw=raw, as_json=as_rows, show_stats=show_stats
            )
        elif interactive:
            from edgepeft.cli.chat import chat

            chat(runtime, sampling, system, bound, show_stats=show_stats)
        elif rows is not None:
            answer_rows(runtime, rows, sampling, system, bound, offered, show_stats=show_stats)
        else:
            text = _one_prompt(prompt)
            stream = runtime.stream(text, sampling, system=system, grammar=bound, tools=offered)
            answer_prompt(runtime, stream, text, offered, as_json=as_json, show_stats=show_stats)
    except KeyboardInterrupt:
        raise InterruptedRun("run: interrupted") from None


def _one_prompt(prompt: str | None) -> str:
    """The prompt that was given, from standard input where none was."""
    return prompt if prompt is not None and prompt != "-" else _read_stdin()


def _read_stdin() -> str:
    from edgepeft.errors import InputError

    try:
        text = sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError:
        raise InputError("stdin: holds bytes that are not UTF-8; save it as UTF-8") from None
    if not text.strip():
        raise InputError("stdin: the prompt is empty; give one as an argument or on stdin")
    return text


def _read_prompts(path: Path) -> list[Asked]:
    """(where, prompt or messages) of every row; all are checked before the first is answered."""
    from edgepeft.data.prompt_rows import read_prompts

    rows, warnings = read_prompts(path)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return rows


def _texts(
    asked: str | TwoTexts | WithTools | list[Message], where: str
) -> tuple[str, tuple[str, ...]]:
    """A row's text, and the second ones that are read with it."""
    from edgepeft.data.prompt_rows import TwoTexts
    from edgepeft.errors import InputError

    if isinstance(asked, TwoTexts):
        return asked.text, (asked.second,)
    if not isinstance(asked, str):
        raise InputError(
            f'{where}: this model reads texts and does not chat; write {{"text": ...}}, or for two texts '
            '{"text": ..., "text_pair": ...} or {"query": ..., "passage": ...}'
        )
    return asked, ()
