"""From tiny models to bundles, all in one process of their own: ``python -m tests.exporters.chain FOLDER``.

The graph builder changes ``sys.path`` and prints when it is imported, so tests must not import it; and one
process for all exports is much quicker than one for each. What fails leaves its error beside the others.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepeft.bundle.layout import LayoutName
from tests.quantize_settings import UNSAID
from tests.stages import carry_cases, run_stage, write_adapter
from tests.tiny import write_tiny_model

TARGETS = ("cpu-int4", "cpu-int8", "cpu-fp32", "cuda-fp16")
GPU_TARGETS = (
    *("cuda-bf16", "cuda-int4", "trt-rtx-fp16", "trt-rtx-int4"),
    *("webgpu-int4", "webgpu-int4-fp32", "webgpu-fp16", "directml-int4", "directml-fp16"),
)
BROWSER = "wasm-int4"
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + 0.05 * i for i in range(8)],
    "long_factor": [1.5 + 0.3 * i for i in range(8)],
    # Below the tests' number of tokens, so that the long factors are used.
    "original_max_position_embeddings": 32,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


@dataclass(frozen=True)
class Case:
    """A model to export: its family, changes to its files, and how it is quantized."""

    family: str
    tied: bool | None = None
    config: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)
    quantize: dict[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] = TARGETS
    accuracy_level: int = 0
    layouts: tuple[LayoutName, ...] = ()


CASES = {
    "llama": Case(
        "llama",
        tied=True,
        targets=(*TARGETS, *GPU_TARGETS, BROWSER),
        layouts=("genai", "transformers.js", "onnxruntime"),
    ),
    "llama-untied": Case(
        "llama", tied=False, generation={"eos_token_id": [7, 2]}, layouts=("genai",)
    ),
    "qwen2": Case("qwen2"),
    "qwen3": Case("qwen3", targets=(*TARGETS, *GPU_TARGETS)),
    "gemma3": Case("gemma3", targets=(*TARGETS, *GPU_TARGETS)),
    "mistral": Case("mistral"),
    "gemma2": Case("gemma2", targets=(*TARGETS, "cuda-bf16", "webgpu-int4-fp32")),
    "phi3": Case("phi3", targets=(*TARGETS, *GPU_TARGETS, BROWSER)),
    "smollm3": Case("smollm3"),
    "granite": Case("granite"),
    "lfm2": Case(
        "lfm2",
        quantize={"algorithm": "gptq"},
        targets=(*TARGETS, "webgpu-int4-fp32", BROWSER),
        layouts=("genai", "transformers.js", "onnxruntime"),
    ),
    "mistral-window": Case("mistral", config={"sliding_window": 16}, targets=("cpu-fp32",)),
    "llama-scaled": Case("llama", config={"rope_parameters": LLAMA3}, targets=("cpu-fp32",)),
    "phi3-long": Case(
        "phi3",
        config={"rope_parameters": LONGROPE, "original_max_position_embeddings": 32},
        targets=("cpu-fp32",),
    ),
    # Wider blocks than the hidden size pad the last one, and the lookup must cut the padding off.
    "blocks-128": Case(
        "llama", quantize={"block_size": 128, "symmetric": True}, targets=("cpu-int4", "cpu-int8")
    ),
    "gptq": Case("llama", quantize={"algorithm": "gptq", "head": "int4"}, targets=("cpu-int4",)),
    "k-quant": Case("qwen2", tied=True, quantize={"algorithm": "k_quant", "head": "int4"}),
    "float-head": Case("llama", tied=True, quantize={"head": "float"}, targets=("cpu-int4",)),
    "float-heads": Case("llama", tied=False, quantize={"head": "float"}, targets=("cpu-int8",)),
    "level-4": Case("llama", targets=("cpu-int4",), accuracy_level=4),
}


def build(case: Case, root: Path) -> None:
    """Carry one case from model to bundles, each stage's folder under its own name in ``root``."""
    from edgepeft.checkpoints import base as base_stage
    from edgepeft.merging import stage as merge_stage
    from edgepeft.quantization import stage as quantize_stage
    from edgepeft.targets import find_target
    from edgepeft_exporters.decoder import stage as export_stage

    model = write_tiny_model(root / "model", case.family, tied=case.tied)
    for name, changes in (("config", case.config), ("generation_config", case.generation)):
        path = model / f"{name}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    base = run_stage(base_stage.run, root / "base", {}, {"model": model})
    adapter = write_adapter(model, root / "adapter")
    merge = {"merge": {"base": "dequantized", "grid": "nf4"}}
    merged = run_stage(merge_stage.run, root / "merge", merge, {"base": base, "adapter": adapter})
    chosen = {**UNSAID, "calibration": {"tokens": 256, "task_share": 0.25, "seed": 0}}
    for target in map(find_target, case.targets):
        inputs = {"base": base, "merge": merged}
        if target.bits:
            # The grid that the target's kernels take, where the chosen one isn't among them.
            limits = {"symmetric": target.symmetric, "head": target.heads}
            own = {k: v[0] for k, v in limits.items() if chosen[k] not in v}
            settings = {
                # As a build does where nothing is said.
                "quantize": {**chosen, "smooth": target.bits == 8, **case.quantize, **own},
                "bits": target.bits,
                "eight_bit_inputs": True,
                "data": {"template": "auto"},
            }
            folder = root / f"quantize-{target.name}"
            inputs["quantize"] = run_stage(quantize_stage.run, folder, settings, inputs)
        settings = {
            "target": target.as_dict(),
            "accuracy_level": case.accuracy_level,
            "template": "auto",
            "base_name": case.family,
            "layout": "all",
        }
        run_stage(export_stage.run, root / target.name, settings, inputs, kind="bundle")
        also = {"cpu-int4": case.layouts, "webgpu-int4-fp32": case.layouts[1:2]}
        for layout in also.get(target.name, ()):
            folder = root / f"{target.name}-{layout}"
            run_stage(
                export_stage.run, folder, {**settings, "layout": layout}, inputs, kind="bundle"
            )


if __name__ == "__main__":
    carry_cases(build, CASES, Path(sys.argv[1]))
