"""Decode speed in a browser without WebGPU: wasm-int4 beside a 4-bit graph of the usual kind for transformers.js.

    python benchmarks/browser_speed.py runs/home-control [--rounds 5]

The usual kind is made of the run's own float32 graph as transformers.js' conversion makes its ``q4``: every
product rounded to nearest in symmetric blocks of 32 by onnxruntime's MatMulNBits quantizer, no accuracy level,
the embedding in float32. Both are asked the sample's question by the chat page of samples/web in headless
Chromium, WebAssembly with as many threads as the page takes, in alternating order, a fresh browser each time;
the page counts tokens after the first. Needs what `make devices` installs. Printed are medians, folder sizes,
and the median ratio of the rounds.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

ROOT = Path(__file__).resolve().parents[1]
QUESTION = "Could you set the lamp in the nursery to 35 percent, please?"


def usual(bundle: Path, folder: Path) -> None:
    """A copy of a float32 bundle with its products rounded in place; its files keep their names."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    shutil.copytree(bundle, folder)
    graph = folder / "onnx" / "model.onnx"
    quantizer = MatMulNBitsQuantizer(onnx.load(graph), block_size=32, is_symmetric=True)
    quantizer.process()
    for old in (graph, graph.with_name("model.onnx_data")):
        old.unlink()
    onnx.save(
        quantizer.model.model,
        graph,
        save_as_external_data=True,
        location="model.onnx_data",
    )


def ask(bundle: Path, picture: Path) -> tuple[float, float, int]:
    """Tokens per second after the first, seconds to the first, and tokens of one answer in a fresh browser."""
    page_server = str(ROOT / "samples" / "web" / "serve.py")
    serve = [sys.executable, page_server, str(bundle), "--port", "0"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            address = server.stdout.readline().strip()
            page = ROOT / "tests" / "samples" / "ask_page.mjs"
            done = subprocess.run(
                ["node", page, f"{address}/?device=wasm&tokens=64", QUESTION, picture],
                cwd=ROOT / "samples",
                capture_output=True,
                text=True,
                check=True,
            )
        finally:
            server.terminate()
    seen = json.loads(done.stdout)
    told = re.fullmatch(
        r"wasm: (\d+) tokens, ([\d.]+) tokens/s, first after ([\d.]+) s", seen["status"]
    )
    if told is None:
        sys.exit(f"the page of {bundle} says: {seen['status']} {seen['turns']}")
    return float(told[2]), float(told[3]), int(told[1])


def main() -> None:
    """Build both, take turns, print medians and the ratio."""
    from edgepeft.evaluation.seal import folder_bytes

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        command = [sys.executable, "-m", "edgepeft.cli.app", "export", options.run]
        targets = ["--set", "targets=[wasm-int4, cpu-fp32]"]
        subprocess.run([*command, "--out", options.run, *targets], check=True)
        bundles = options.run / "bundles"
        usual(bundles / "cpu-fp32", place / "usual")
        sides = {"ours": bundles / "wasm-int4", "usual": place / "usual"}
        found: dict[str, list[tuple[float, float, int]]] = {"ours": [], "usual": []}
        for number in range(options.rounds):
            for name in sorted(sides, reverse=bool(number % 2)):
                found[name].append(ask(sides[name], place / "page.png"))
        sizes = {name: folder_bytes(path) / 1e6 for name, path in sides.items()}
    for name, title in (("ours", "edgepeft, wasm-int4"), ("usual", "float32 graph, q4 as usual")):
        rates, firsts, counts = zip(*found[name], strict=True)
        print(
            f"{title:<28} {statistics.median(rates):7.1f} tok/s  first after "
            f"{statistics.median(firsts):.2f} s  {counts[0]} tokens  {sizes[name]:6.1f} MB"
        )
    pairs = zip(found["ours"], found["usual"], strict=True)
    ratio = statistics.median(mine[0] / theirs[0] for mine, theirs in pairs)
    print(f"ratio (median of {options.rounds} rounds) {ratio:7.3f}")


if __name__ == "__main__":
    main()
