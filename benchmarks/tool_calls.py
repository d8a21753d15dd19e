"""Calls within the grammar of their tools beside free ones: tokens per second, and how many answers hold.

    python benchmarks/tool_calls.py runs/home-tools [--target cpu-int4] [--rows 40] [--rounds 3] [--hostile 500]
        [--threads N]

One process asks the held-out prompts of a run whose rows have tools freely and within the tools' grammar in
turns, so that both sides meet the same machine. Printed are the speeds and the ratio's median over the rounds,
with all tokens over the seconds from each answer's first token to its last, and over whole answers. Hostile
prompts ask for anything but the task, while something must be called: it is told how many of their answers are
calls of a tool there is, with arguments that jsonschema finds fit.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from guided_decoding import ROOM, hostile, in_turns

from edgepeft.config.run_recipe import recipe_of
from edgepeft.data.rows import Row
from edgepeft.data.tools import closed_parameters, name_of
from edgepeft.guidance import FREE
from edgepeft.pipeline.resolve import resolve
from edgepeft.runtime import Completion, Offered, Runtime


def main() -> None:
    """Ask in turns, then what is hostile, and print it all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--target", default="cpu-int4")
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hostile", type=int, default=500)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    from jsonschema import Draft202012Validator

    rows = [
        row
        for row in resolve(recipe_of(options.run), measured=True).test_rows[: options.rows]
        if row.tools
    ]
    runtime = Runtime(options.run / "bundles" / options.target, threads=options.threads)
    runtime.complete(rows[0].prompt_messages, max_new_tokens=8, tools=rows[0].tools)
    bounds = {"free": FREE, "bounded": None}

    def ask(row: Row, side: str) -> Completion:
        return runtime.complete(
            row.prompt_messages, max_new_tokens=ROOM, tools=row.tools, grammar=bounds[side]
        )

    in_turns(rows, options.rounds, ask)
    judges = {
        name_of(tool): Draft202012Validator(closed_parameters(tool)) for tool in rows[0].tools
    }
    must = Offered(rows[0].tools, required=True)
    prompts = hostile([row.prompt_messages[-1]["content"] for row in rows], options.hostile)
    fit = cut = 0
    for prompt in prompts:
        answer = runtime.complete(prompt, max_new_tokens=ROOM, tools=must)
        calls = [call["function"] for call in runtime.tool_use.parsed(answer.ids, must.tools).calls]
        cut += answer.finish_reason == "length"
        fit += bool(calls) and all(
            judges[call["name"]].is_valid(call["arguments"]) for call in calls
        )
    print(f"{len(prompts)} hostile prompts: {fit} are sound calls, {cut} were cut off")


if __name__ == "__main__":
    main()
