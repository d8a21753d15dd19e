"""``edgepeft bench``: bundles timed side by side on this machine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from edgepeft.cli.bundles import ThreadsOption
from edgepeft.cli.options import JsonOption
from edgepeft.models.tasks import GENERATION


def command(
    bundles: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE...", help="One or more bundle folders.")
    ],
    prompt_tokens: Annotated[
        str, typer.Option(help="Lengths of prompt (or text) to time, in tokens, with commas.")
    ] = "16,128",
    new_tokens: Annotated[int, typer.Option(help="Tokens decoded after each prompt.")] = 64,
    rounds: Annotated[int, typer.Option(help="Measurements of each; medians are shown.")] = 3,
    provider: Annotated[
        list[str] | None,
        typer.Option(
            help="Run on this provider (repeatable); default: the one each bundle was built for.",
            show_default=False,
        ),
    ] = None,
    threads: ThreadsOption = None,
    llama_cpp: Annotated[
        bool,
        typer.Option(
            "--llama-cpp",
            help="Also llama.cpp (Q4_K_M) on the merged weights of each bundle's run; needs llama-cpp-python.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Time bundles side by side: loading, first token, prefill, decoding, memory.

    Each measurement is a fresh process and the bundles take turns. Bundles that generate no text are timed on
    one text after another. For the others the last column says how near decoding
    comes to reading every weight once a token at this machine's memory bandwidth. Run it on an otherwise idle
    machine.
    """
    from edgepeft.benchmark.bench import Case, bench
    from edgepeft.cli.tables import print_table
    from edgepeft.errors import InputError

    try:
        lengths = sorted({int(part) for part in prompt_tokens.split(",")})
    except ValueError:
        raise InputError(
            f"--prompt-tokens {prompt_tokens}: give whole numbers, as 16,128"
        ) from None
    providers: Sequence[str | None] = provider or [None]
    cases = [Case(folder, name) for folder in bundles for name in providers]

    def say(line: str) -> None:
        typer.echo(line, err=True)

    with tempfile.TemporaryDirectory() as scratch:
        if llama_cpp:
            from edgepeft.benchmark.llama_cpp import gguf_of_runs

            files = gguf_of_runs(bundles, Path(scratch), say)
            cases += [Case(bundle, None, file) for bundle, file in files.items()]
        found = bench(
            cases,
            prompt_tokens=lengths,
            new_tokens=new_tokens,
            rounds=rounds,
            threads=threads,
            say=say,
        )
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    generating = [case for case in found["cases"] if case["task"] == GENERATION]
    reading = [case for case in found["cases"] if case["task"] != GENERATION]
    if generating:
        print_table(
            [
                *("bundle", "on", "prompt", "load s", "first s", "prefill tok/s", "decode tok/s"),
                *("peak", "MB a token", "of bandwidth"),
            ],
            [row for case in generating for row in _rows(case, _speeds)],
        )
    if reading:
        print_table(
            [
                *("bundle", "on", "tokens", "load s", "ms a text", "texts/s", "tokens/s"),
                *("peak", "MB"),
            ],
            [row for case in reading for row in _rows(case, _texts)],
        )
    count = found["threads"]
    typer.echo(f"computed with {count} thread{'s' if count > 1 else ''}")
    typer.echo(f"memory bandwidth measured here: {found['memory_bandwidth'] / 1e9:.1f} GB/s")


def _rows(
    case: dict[str, Any], speeds: Callable[[dict[str, Any]], tuple[list[str], list[str]]]
) -> list[list[str]]:
    """A row for each length; what does not depend on it stands in the first.

    ``speeds`` gives a length's columns before those of memory and after.
    """
    rows = []
    for index, length in enumerate(case["lengths"]):
        once = index == 0
        before, after = speeds(length)
        rows.append(
            [
                _name(case["path"]) if once else "",
                case["provider"].removesuffix("ExecutionProvider") if once else "",
                str(length["prompt_tokens"]),
                f"{case['load_seconds']:.2f}" if once else "",
                *before,
                f"{case['peak_memory_bytes'] / 1e6:.0f} MB" if once else "",
                f"{case['weight_bytes'] / 1e6:.1f}" if once else "",
                *after,
            ]
        )
    return rows


def _speeds(length: dict[str, Any]) -> tuple[list[str], list[str]]:
    before = [
        f"{length['first_token_seconds']:.3f}",
        f"{length['prefill_tokens_per_second']:.0f}",
        f"{length['decode_tokens_per_second']:.1f}",
    ]
    return before, [f"{length['bandwidth_share']:.0%}"]


def _texts(length: dict[str, Any]) -> tuple[list[str], list[str]]:
    seconds = length["text_seconds"]
    before = [f"{1000 * seconds:.2f}", f"{1 / seconds:.0f}", f"{length['tokens_per_second']:.0f}"]
    return before, []


def _name(path: str) -> str:
    """The bundle's folder and the run it lies in, which together tell bundles apart."""
    folder = Path(path)
    if folder.suffix == ".gguf":
        return folder.name
    return f"{folder.parents[1].name}/{folder.name}" if len(folder.parents) > 1 else folder.name
