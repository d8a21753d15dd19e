"""Fidelity at a size: edgepeft's ways to quantize beside the graph builder's own int4 on the same merged model.

    python benchmarks/fidelity.py runs/home-control [--vary KEY=A,B ...] [--llama-cpp]

The builder quantizes the run's merged float32 checkpoint with its defaults (round to nearest, symmetric blocks of
32, tied int4 head). Every row is measured against the run's unmerged reference through onnxruntime on the CPU, on
the same held-out rows and text; whole-folder bytes; the ratios are to the builder's row. "Task rows" is the share
of held-out completions whose every token is the graph's first choice. With --llama-cpp the merged checkpoint is
also written as GGUF, quantized to Q4_K_M by llama.cpp and measured through it (needs llama-cpp-python).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alternatives import build_default_int4

from edgepeft.benchmark.gguf_model import GgufModel
from edgepeft.benchmark.llama_cpp import quantized_gguf
from edgepeft.evaluation.reference_record import Reference
from edgepeft.evaluation.seal import folder_bytes
from edgepeft.metrics.generation import Comparison
from edgepeft.pipeline.compare import compare, label

AXES = ["targets=cpu-int4", "quantize.block_size=16,32", "quantize.head=int4,int8"]


class BuilderGraph:
    """The builder's graph through plain onnxruntime; its cache names no head size, the configuration does."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime as ort

        decoder = json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]
        self._session = ort.InferenceSession(
            str(folder / decoder["filename"]), providers=["CPUExecutionProvider"]
        )
        empty = np.zeros((1, decoder["num_key_value_heads"], 0, decoder["head_size"]), np.float32)
        names = [node.name for node in self._session.get_inputs()]
        self._cache = {name: empty for name in names if name.startswith("past_key_values.")}

    def logits(self, ids: list[int]) -> torch.Tensor:
        """Logits float32 [T, V]."""
        feed = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
        (logits,) = self._session.run(["logits"], {**feed, **self._cache})
        return torch.from_numpy(logits[0])


class GgufGraph:
    """The merged checkpoint at llama.cpp's Q4_K_M."""

    def __init__(self, file: Path, capacity: int) -> None:
        self._model = GgufModel(file, capacity=capacity)

    def logits(self, ids: list[int]) -> torch.Tensor:
        """Logits float32 [T, V]."""
        return torch.from_numpy(self._model.read(ids, 0, every=True))


def measured(graph: BuilderGraph | GgufGraph, reference: Reference) -> dict[str, float]:
    """KL on both kinds of probes, top-1 agreement on text, and the share of right task rows."""
    right, found = 0, {}
    for kind in ("task", "generic"):
        comparison = Comparison()
        for index, probe in enumerate(reference.probes(kind)):
            logits = graph.logits(probe.ids)[probe.positions]
            targets = torch.tensor(probe.ids[probe.start :])
            comparison.add(reference.logits(kind, index), logits, targets)
            right += int(kind == "task" and bool((logits.argmax(-1) == targets).all()))
        found[kind] = comparison
    return {
        "task_kl": found["task"].kl,
        "generic_kl": found["generic"].kl,
        "generic_top1_agreement": found["generic"].top1_agreement,
        "exact_match": right / len(reference.probes("task")),
    }


def row(label: str, size: int, facts: dict[str, Any], yardstick: dict[str, float]) -> str:
    """One line of the table."""
    return (
        f"{label:<44} {size / 1e6:6.1f} MB  exact {facts['exact_match']:.3f}  "
        f"task KL {facts['task_kl']:.5f} ({facts['task_kl'] / yardstick['task_kl']:.3f})  "
        f"generic KL {facts['generic_kl']:.4f} ({facts['generic_kl'] / yardstick['generic_kl']:.3f})  "
        f"top-1 {facts['generic_top1_agreement']:.3f}"
    )


def main() -> None:
    """Measure the builder's row, then ours, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--vary", action="append", help="as of edgepeft compare")
    parser.add_argument("--llama-cpp", action="store_true")
    options = parser.parse_args()
    run = options.run.resolve()
    record = json.loads((run / "run.json").read_text())["result"]
    newest = max((run / "stages").glob("reference-*"), key=lambda path: path.stat().st_mtime)
    base = max((run / "stages").glob("base-*"), key=lambda path: path.stat().st_mtime)
    with tempfile.TemporaryDirectory() as temporary:
        build_default_int4(record["merged"], temporary)
        theirs = measured(BuilderGraph(Path(temporary)), Reference.open(newest, base))
        print(
            "figures in brackets are ratios to the builder's; its exact match is of the task rows"
        )
        print(row("builder: int4 sym 32, head int4", folder_bytes(Path(temporary)), theirs, theirs))
    if options.llama_cpp:
        with tempfile.TemporaryDirectory() as temporary:
            file = quantized_gguf(Path(record["merged"]), Path(temporary) / "merged.gguf")
            reference = Reference.open(newest, base)
            probes = [probe for kind in ("task", "generic") for probe in reference.probes(kind)]
            longest = max(len(probe.ids) for probe in probes)
            facts = measured(GgufGraph(file, longest), reference)
            print(row("llama.cpp: Q4_K_M, one file", file.stat().st_size, facts, theirs))
    for entry in compare(run, options.vary or AXES):
        if "error" in entry:
            print(f"{label(entry['values'])}: {entry['error']}")
            continue
        kept = entry["weights"]
        kind = f"{kept['algorithm'] or ''} {kept['linear']}; head {kept['head']}"
        kind = kind.replace("asymmetric, blocks of", "asym").replace("symmetric, blocks of", "sym")
        print(row(kind, entry["bytes"], entry["fidelity"], theirs))


if __name__ == "__main__":
    main()
