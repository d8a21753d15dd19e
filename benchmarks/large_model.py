"""A 7B-shaped model merged, rounded to int4 and exported: peak of anonymous memory, and time against the least.

    python benchmarks/large_model.py runs/home-control [--layers 32] [--width 4096] [--grid nf4]

A random Llama (bfloat16, sharded safetensors) with a random rank-16 adapter becomes a cpu-int4 bundle by rounding
to nearest; no merged checkpoint is kept (``merge.save: false``). Printed are the peak of anonymous memory
(RssAnon, sampled) and the seconds of each stage, and the ratio of their sum to the least that must be done,
measured in the same run: every tensor read, put through the training grid by bitsandbytes (``--grid none`` leaves
that out), rounded to int4, and its codes written twice, once for each stage, and flushed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from memory import watched, write_adapter, write_model

STAGES = ("base", "quantize-int4", "export-cpu-int4")


def least_seconds(model: Path, grid: str, out: Path) -> float:
    """Read, round and write every tensor of a checkpoint, with nothing around it."""
    from edgepeft.adapters.provenance import TrainingGrid
    from edgepeft.adapters.training_grid import through_grid
    from edgepeft.checkpoints.safetensors_io import SafetensorsSource
    from edgepeft.quantization.algorithms import find_algorithm
    from edgepeft.quantization.grids import IntGrid

    started = time.monotonic()
    source = SafetensorsSource.from_folder(model)
    training, four = TrainingGrid(kind=grid), IntGrid(4, 32, False)  # type: ignore[arg-type]
    rounding = find_algorithm("rtn")
    with out.open("wb") as stream:
        for name, spec in source.specs.items():
            tensor = source.load(name)
            if len(spec.shape) == 2:
                tensor = tensor.float()
                if "proj" in name:
                    tensor = through_grid(tensor, training)
                parts = rounding(tensor, four).packed()
                for _ in STAGES[1:]:
                    for part in parts.values():
                        stream.write(memoryview(part.contiguous().numpy()))
        stream.flush()
        os.fsync(stream.fileno())
    return time.monotonic() - started


def main() -> None:
    """Write the model, build it, measure the least, print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="any finished run: its tokenizer is borrowed")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--grid", default="nf4", choices=["nf4", "none"])
    options = parser.parse_args()
    base = next((options.run / "stages").glob("base-*"))
    with tempfile.TemporaryDirectory() as temporary:
        model, adapter, run = (Path(temporary, name) for name in ("model", "adapter", "run"))
        write_model(model, base, options.layers, options.width)
        write_adapter(adapter, model)
        size = sum(path.stat().st_size for path in model.iterdir())
        print(f"{options.layers} layers of width {options.width}: {size / 1e9:.2f} GB", flush=True)
        command = [sys.executable, "-m", "edgepeft.cli.app", "export", "--model", str(model)]
        command += ["--adapter", str(adapter), "--out", str(run), "--progress", "none"]
        settings = ["quantize.algorithm=rtn", "targets=cpu-int4", "merge.save=false"]
        settings += [f"merge.grid={options.grid}"]
        peaks = watched([*command, *(part for each in settings for part in ("--set", each))])
        found = [
            *(run / "stages").glob("*/edgepeft.json"),
            *(run / "bundles").glob("*/edgepeft.json"),
        ]
        manifests = [json.loads(path.read_text(encoding="utf-8")) for path in found]
        seconds = {manifest["stage"]: manifest["seconds"] for manifest in manifests}
        for name, peak in zip(STAGES, peaks, strict=True):
            print(f"{name:<16} anonymous {peak / 1e9:6.3f} GB  {seconds[name]:7.1f} s", flush=True)
        least = least_seconds(model, options.grid, Path(temporary, "codes"))
    whole = sum(seconds.values())
    print(
        f"least that must be done {least:7.1f} s, the stages {whole:7.1f} s, ratio {whole / least:.2f}"
    )


if __name__ == "__main__":
    main()
