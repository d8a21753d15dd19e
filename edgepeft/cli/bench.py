"""``edgepeft bench``: bundles timed side by side on this machine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from edgepeft.cli.options import JsonOption


def command(
    bundles: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE...", help="One or more bundle folders.")
    ],
    prompt_tokens: Annotated[
        str, typer.Option(help="Lengths of prompt to time, in tokens, with commas.")
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
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; onnxruntime's choice by default.")
    ] = None,
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

    Each measurement is a fresh process and the bundles take turns. The last column says how near decoding
    comes to reading every weight once a token at this machine's memory bandwidth. Run it on an otherwise idle
    machine.
    """
    from edgepeft.cli.tables import print_table
    from edgepeft.errors import InputError
    from edgepeft.runtime.bench import Case, bench

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
            from edgepeft.gguf_rival import gguf_of_runs

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
    print_table(
        [
            *("bundle", "on", "prompt", "load s", "first s", "prefill tok/s", "decode tok/s"),
            *("peak", "MB a token", "of bandwidth"),
        ],
        [row for case in found["cases"] for row in _rows(case)],
    )
    typer.echo(f"memory bandwidth measured here: {found['memory_bandwidth'] / 1e9:.1f} GB/s")


def _rows(case: dict[str, Any]) -> list[list[str]]:
    """A row for each length of prompt; what does not depend on it stands in the first."""
    rows = []
    for index, length in enumerate(case["lengths"]):
        once = index == 0
        rows.append(
            [
                _name(case["path"]) if once else "",
                case["provider"].removesuffix("ExecutionProvider") if once else "",
                str(length["prompt_tokens"]),
                f"{case['load_seconds']:.2f}" if once else "",
                f"{length['first_token_seconds']:.3f}",
                f"{length['prefill_tokens_per_second']:.0f}",
                f"{length['decode_tokens_per_second']:.1f}",
                f"{case['peak_memory_bytes'] / 1e6:.0f} MB" if once else "",
                f"{case['weight_bytes'] / 1e6:.1f}" if once else "",
                f"{length['bandwidth_share']:.0%}",
            ]
        )
    return rows


def _name(path: str) -> str:
    """The bundle's folder and the run it lies in, which together tell bundles apart."""
    folder = Path(path)
    if folder.suffix == ".gguf":
        return folder.name
    return f"{folder.parents[1].name}/{folder.name}" if len(folder.parents) > 1 else folder.name
