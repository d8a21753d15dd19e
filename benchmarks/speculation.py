"""Decoding with guessed tokens beside plain greedy decoding, on the held-out prompts of a run's own task.

    python benchmarks/speculation.py runs/home-control [--target cpu-int4] [--rows 40] [--rounds 5] [--threads N]

A process loads the bundle and answers the prompts one after another, so that later answers are guessed from
earlier ones, as on a device. Both sides take turns in fresh processes; a process counts with all tokens over the
seconds from each answer's first token to its last. Printed are medians in tokens per second, of whole answers
(prefill included) too, the median ratios of the rounds, and how many answers differ between the two sides in any
token.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

SIDES = ("plain", "guessing")


def answers(bundle: str, side: str, file: str, threads: int | None) -> dict[str, Any]:
    """Answer the prompts of a JSON file in this process."""
    from edgepeft.runtime import Runtime

    runtime = Runtime(bundle, threads=threads, speculate=side == "guessing")
    done = [
        runtime.complete(messages, max_new_tokens=96)
        for messages in json.loads(Path(file).read_text(encoding="utf-8"))
    ]
    decoded = sum(max(0, len(answer.ids)) for answer in done)
    decoding = sum(answer.decode_seconds for answer in done)
    return {
        "ids": [answer.ids for answer in done],
        "decode": decoded / decoding,
        "whole": decoded / (decoding + sum(answer.prefill_seconds for answer in done)),
    }


def main() -> None:
    """Take turns, compare the answers, print speeds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--target", default="cpu-int4")
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--alone", nargs=2, metavar=("SIDE", "PROMPTS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    bundle = str(options.run / "bundles" / options.target)
    if options.alone:
        side, prompts = options.alone
        print(json.dumps(answers(bundle, side, prompts, options.threads)))
        return
    import tempfile

    from edgepeft.config.run_recipe import recipe_of
    from edgepeft.pipeline.resolve import resolve

    rows = resolve(recipe_of(options.run), measured=True).test_rows
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump([row.prompt_messages for row in rows[: options.rows]], file)
        file.flush()
        for number in range(options.rounds):
            for side in SIDES if number % 2 == 0 else reversed(SIDES):
                command = [sys.executable, __file__, str(options.run), "--target", options.target]
                command += ["--threads", str(options.threads)] if options.threads else []
                command += ["--alone", side, file.name]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found[side].append(json.loads(done.stdout))
    for measure in ("decode", "whole"):
        plain, guessing = ([one[measure] for one in found[side]] for side in SIDES)
        ratios = [mine / theirs for mine, theirs in zip(guessing, plain, strict=True)]
        print(
            f"{measure:<7} plain {statistics.median(plain):6.1f} tok/s  "
            f"guessing {statistics.median(guessing):6.1f} tok/s  ratio {statistics.median(ratios):.2f}"
        )
    pairs = zip(found["plain"][0]["ids"], found["guessing"][0]["ids"], strict=True)
    differing = sum(one != other for one, other in pairs)
    print(f"{differing} of {len(found['plain'][0]['ids'])} answers differ")


if __name__ == "__main__":
    main()
