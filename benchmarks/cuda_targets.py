"""Every target for NVIDIA GPUs on this machine: fidelity, speed and memory, with the hardware named.

    python benchmarks/cuda_targets.py runs/home-control [--targets cuda-int4,trt-rtx-int4] [--rounds 5] [--cpu]

Builds the targets from a finished run, reusing all it has, so that each is measured by the verify stage, and
times them with ``edgepeft bench``. A target counts only if its own provider executed it: the others are listed
with what was missing, and the exit status is then 3. With --cpu the graphs are run on the CPU instead, which
tries this script out and says nothing about a GPU. CUDA's targets need edgepeft[cuda]; those of TensorRT for RTX
need its plug-in (onnxruntime-ep-nv-tensorrt-rtx-cu13) beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

TARGETS = "cuda-fp16,cuda-bf16,cuda-int4,trt-rtx-fp16,trt-rtx-int4"
NO_TIMING_ON_CPU = ("cuda-bf16",)
"""The CPU has no bfloat16 kernels; verification widens the graph, timing it would say nothing."""


def edgepeft(*arguments: object, may_miss_gates: bool = False) -> dict[str, Any]:
    """What an edgepeft command prints with --json; exits where it fails."""
    command = [sys.executable, "-m", "edgepeft.cli.app", *map(str, arguments), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in ((0, 4) if may_miss_gates else (0,)):
        sys.exit(done.returncode)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Build, verify and time; print one JSON object and a line for each target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--targets", default=TARGETS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt-tokens", default="16,128")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    names = options.targets.split(",")
    targets = f"targets=[{', '.join(names)}]"
    built = edgepeft("build", options.run, "--set", targets, may_miss_gates=True)
    rows = []
    absent = 0
    for bundle in built["bundles"]:
        facts = bundle["fidelity"]
        executed = facts["executed_on"] == facts["provider"]
        absent += not executed
        row = {
            "target": bundle["target"],
            "execution": facts["execution"],
            "not_executed_because": facts["not_executed_because"],
            "bytes": bundle["bytes"],
            "gates": bundle["gates"],
            **{k: facts[k] for k in ("exact_match", "task_kl", "generic_kl", "top1_agreement")},
        }
        if executed or (options.cpu and bundle["target"] not in NO_TIMING_ON_CPU):
            row |= timed(bundle["path"], options)
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    doctor = edgepeft("doctor")
    print(
        json.dumps(
            {"hardware": doctor["hardware"], "versions": doctor["versions"], "targets": rows},
            indent=2,
        )
    )
    if absent and not options.cpu:
        print(f"{absent} of {len(rows)} targets were not executed", file=sys.stderr)
        sys.exit(3)


def timed(bundle: str, options: argparse.Namespace) -> dict[str, Any]:
    """Speed and memory of one bundle, each measurement in a process of its own."""
    where = ("--provider", "cpu") if options.cpu else ()
    lengths = ("--prompt-tokens", options.prompt_tokens, "--new-tokens", options.new_tokens)
    found = edgepeft("bench", bundle, "--rounds", options.rounds, *lengths, *where)
    (case,) = found["cases"]
    keys = ("device", "load_seconds", "peak_memory_bytes", "device_memory_bytes", "lengths")
    return {key: case[key] for key in keys}


if __name__ == "__main__":
    main()
