"""Decode speed: a bundle through edgepeft's runtime beside a bare genai loop over the builder's own int4 model.

    python benchmarks/decode_speed.py runs/home-control [--target cpu-int4] [--rounds 9]

The builder quantizes the run's merged checkpoint with its defaults (round to nearest, symmetric blocks of 32,
tied int4 head, accuracy level 4). Both answer the same prompt with the same number of greedy tokens, each in a
fresh process and in alternating order, because two models in one process slow each other by a tenth. A process
counts with the median of its answers; the first token is left out. Printed are medians in tokens per second,
folder sizes, and the median ratio of the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alternatives import build_default_int4

TOKENS = 128
PROMPT = "Tell me a long story about a lighthouse keeper and the sea."

ANSWERS = 4


def bare_loop(model: Any, ids: list[int]) -> float:
    """Tokens per second of the shortest possible onnxruntime-genai program."""
    import onnxruntime_genai as og

    parameters = og.GeneratorParams(model)
    parameters.set_search_options(do_sample=False, max_length=len(ids) + TOKENS)
    generator = og.Generator(model, parameters)
    generator.append_tokens(ids)
    generator.generate_next_token()
    started = time.perf_counter()
    count = 0
    while not generator.is_done() and count < TOKENS - 1:
        generator.generate_next_token()
        generator.get_next_tokens()
        count += 1
    return count / (time.perf_counter() - started)


def bare(folder: str, prompt: str) -> float:
    """The bare loop's speed over a genai folder; ``prompt`` is a JSON list of token ids."""
    import onnxruntime_genai as og

    ids: list[int] = json.loads(prompt)
    model = og.Model(folder)
    bare_loop(model, ids)
    return statistics.median(bare_loop(model, ids) for _ in range(ANSWERS))


def ours(bundle: str) -> float:
    """The speed of ``Runtime.complete`` after the first token, text included."""
    from edgepeft.runtime import Runtime

    runtime = Runtime(bundle)
    runtime.complete(PROMPT, max_new_tokens=TOKENS)
    answers = [runtime.complete(PROMPT, max_new_tokens=TOKENS) for _ in range(ANSWERS)]
    return statistics.median(float(answer.tokens_per_second) for answer in answers)


def alone(*arguments: str) -> float:
    """What ``--alone`` prints for one side, in a process of its own."""
    command = [sys.executable, __file__, "--alone", *arguments]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Build the alternative, take turns, print medians and the ratio."""
    if sys.argv[1:2] == ["--alone"]:
        side, *arguments = sys.argv[2:]
        speed: Callable[..., float] = ours if side == "ours" else bare
        print(speed(*arguments))
        return
    from edgepeft.data.prompt import Prompter
    from edgepeft.evaluation.seal import folder_bytes

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--target", default="cpu-int4")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    record = json.loads((options.run / "run.json").read_text(encoding="utf-8"))["result"]
    bundle = str(options.run / "bundles" / options.target)
    prompt = Prompter.from_folder(Path(bundle)).prompt([{"role": "user", "content": PROMPT}])
    with tempfile.TemporaryDirectory() as temporary:
        build_default_int4(record["merged"], temporary)
        sides = {"ours": ("ours", bundle), "bare": ("bare", temporary, json.dumps(prompt))}
        speeds: dict[str, list[float]] = {"ours": [], "bare": []}
        for number in range(options.rounds):
            for name in sorted(sides, reverse=bool(number % 2)):
                speeds[name].append(alone(*sides[name]))
        pairs = zip(speeds["ours"], speeds["bare"], strict=True)
        ratio = statistics.median(mine / theirs for mine, theirs in pairs)
        sizes = [folder_bytes(Path(path)) / 1e6 for path in (bundle, temporary)]
    mine, theirs = (statistics.median(speeds[name]) for name in ("ours", "bare"))
    print(f"edgepeft, {options.target:<28} {mine:7.1f} tok/s  {sizes[0]:6.1f} MB")
    print(f"bare genai loop, builder's own int4    {theirs:7.1f} tok/s  {sizes[1]:6.1f} MB")
    print(f"ratio (median of {options.rounds} rounds)            {ratio:7.3f}")


if __name__ == "__main__":
    main()
