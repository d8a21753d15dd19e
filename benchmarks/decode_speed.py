"""Decode speed: a bundle through edgepeft's runtime beside a bare genai loop over the builder's own int4 model.

    python benchmarks/decode_speed.py runs/home-control [--target cpu-int4] [--rounds 15]

The builder quantizes the run's merged checkpoint with its defaults (round to nearest, symmetric blocks of 32,
tied int4 head, accuracy level 4). Both answer the same prompt with the same number of greedy tokens, in turn; the
first token is left out. Printed are medians in tokens per second, folder sizes, and the ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TOKENS = 128
PROMPT = "Tell me a long story about a lighthouse keeper and the sea."

BUILD = """
import sys
from onnxruntime_genai.models import builder
arguments = (None, sys.argv[1], sys.argv[2], "int4", "cpu", sys.argv[2])
options = builder.parse_extra_options(*arguments, [])
builder.create_model(*arguments, **options)
"""


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


def ours(runtime: Any) -> float:
    """Tokens per second of ``Runtime.complete`` after the first token, text included."""
    answer = runtime.complete(PROMPT, max_new_tokens=TOKENS)
    return float(answer.tokens_per_second)


def folder_megabytes(folder: Path) -> float:
    """Size of a folder with all it holds."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6


def main() -> None:
    """Build the alternative, take turns, print medians and the ratio."""
    import onnxruntime_genai as og

    from edgepeft.runtime import Runtime

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--target", default="cpu-int4")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    record = json.loads((options.run / "run.json").read_text(encoding="utf-8"))["result"]
    with tempfile.TemporaryDirectory() as temporary:
        subprocess.run(
            [sys.executable, "-c", BUILD, record["merged"], temporary],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        bundle = options.run / "bundles" / options.target
        runtime = Runtime(bundle)
        ids = runtime.prompter.prompt([{"role": "user", "content": PROMPT}])
        model = og.Model(temporary)
        bare_loop(model, ids)
        ours(runtime)
        pairs = [(ours(runtime), bare_loop(model, ids)) for _ in range(options.rounds)]
        mine = statistics.median(pair[0] for pair in pairs)
        bare = statistics.median(pair[1] for pair in pairs)
        ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
        print(
            f"edgepeft, {options.target:<28} {mine:7.1f} tok/s  {folder_megabytes(bundle):6.1f} MB"
        )
        size = folder_megabytes(Path(temporary))
        print(f"bare genai loop, builder's own int4    {bare:7.1f} tok/s  {size:6.1f} MB")
        print(f"ratio (median of {options.rounds} pairs)             {ratio:7.3f}")


if __name__ == "__main__":
    main()
