"""Hot-swap bundles of tiny models, with adapters to put into them: ``python -m tests.hot_swap.chain FOLDER``."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.quantize_settings import UNSAID
from tests.stages import carry_cases, run_stage, write_adapter
from tests.tiny import write_tiny_model

NF4 = {"kind": "nf4", "block_size": 64, "double_quant": True}
NONE = {"kind": "none", "block_size": 64, "double_quant": True}
RANK = 8
ADAPTERS: dict[str, dict[str, Any]] = {
    "one": {"seed": 1, "r": 4},
    "two": {"seed": 2, "r": 8, "lora_alpha": 4, "use_rslora": True},
    "few": {"seed": 3, "r": 2, "target_modules": ["v_proj", "down_proj"]},
}
"""Different ranks, scales and modules."""
FUSED = {name: {**lora, "target_modules": "all-linear"} for name, lora in ADAPTERS.items()}
"""For models whose projections are one module by nature."""


@dataclass(frozen=True)
class Case:
    """A model, what its base lay on while adapters were trained, and the targets to export."""

    family: str
    targets: tuple[str, ...] = ("cpu-fp32",)
    grid: dict[str, Any] = field(default_factory=lambda: NF4)
    modules: Any = "all-linear"
    adapters: dict[str, dict[str, Any]] = field(default_factory=lambda: ADAPTERS)


CASES = {
    "llama": Case("llama", ("cpu-fp32", "cpu-nf4", "cpu-int4", "cpu-int8")),
    "llama-plain": Case("llama", grid=NONE),
    "qwen2": Case("qwen2"),
    "gemma3": Case("gemma3"),
    "phi3": Case("phi3", adapters=FUSED),
    "lfm2": Case(
        "lfm2",
        adapters={
            "two": FUSED["two"],
            "few": {**FUSED["few"], "target_modules": ["in_proj", "w2"]},
        },
    ),
    "some": Case("llama", modules=["v_proj", "down_proj"], adapters={"few": ADAPTERS["few"]}),
}


def build(case: Case, root: Path) -> None:
    """Export one case's bundles and write its adapters."""
    from edgepeft.checkpoints import base as base_stage
    from edgepeft.quantization import lossless as lossless_stage
    from edgepeft.quantization import stage as quantize_stage
    from edgepeft.targets import find_target
    from edgepeft_exporters.decoder import stage as export_stage

    # Lossless targets want rows of whole blocks of 64.
    model = write_tiny_model(root / "model", case.family, intermediate=192)
    for name, lora in case.adapters.items():
        write_adapter(model, root / "adapters" / name, **lora)
    base = run_stage(base_stage.run, root / "base", {}, {"model": model})
    frozen = {"grid": case.grid, "quantized": None}
    for target in map(find_target, case.targets):
        inputs = {"base": base}
        folder = root / f"quantize-{target.name}"
        settings: dict[str, Any] = {"frozen": frozen}
        if target.precision == "nf4":
            inputs["quantize"] = run_stage(lossless_stage.run, folder, settings, inputs)
        elif target.bits:
            settings |= {"quantize": UNSAID, "bits": target.bits}
            inputs["quantize"] = run_stage(quantize_stage.run, folder, settings, inputs)
        settings = {
            "frozen": frozen,
            "adapter_rank": RANK,
            "adapter_modules": case.modules,
            "target": target.as_dict(),
            "accuracy_level": 0,
            "template": "auto",
            "base_name": case.family,
            "layout": "all",
        }
        run_stage(export_stage.run, root / target.name, settings, inputs, kind="bundle")


if __name__ == "__main__":
    carry_cases(build, CASES, Path(sys.argv[1]))
