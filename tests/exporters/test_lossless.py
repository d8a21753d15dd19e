"""The lossless target: bitsandbytes' codes in the graph, and the unmerged reference's own logits out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from bitsandbytes import functional
from transformers import AutoModelForCausalLM

from edgepeft.adapters.attach import attach, open_adapter
from edgepeft.adapters.provenance import TrainingGrid
from edgepeft.adapters.training_grid import grid_codes, through_grid
from edgepeft.checkpoints import base as base_stage
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.errors import InputError
from edgepeft.merging import stage as merge_stage
from edgepeft.quantization import lossless
from edgepeft.quantization.packed_weights import QuantizedWeights
from edgepeft.runtime import Bundle, GraphSession, Runtime
from edgepeft.targets import find_target
from edgepeft_exporters.decoder import stage as export_stage
from tests.conftest import ModelMaker
from tests.quantization.weights import normal
from tests.stages import run_stage, write_adapter

MERGE = {"merge": {"base": "dequantized", "grid": "nf4"}}
IDS = [5, 9, 40, 200, 17, 63, 128, 7]


def carry(model: Path, root: Path, **lora: Any) -> tuple[Path, Path, Path]:
    """The lossless bundle of a model with a random adapter, the quantize stage's folder and the adapter."""
    base = run_stage(base_stage.run, root / "base", {}, {"model": model})
    adapter = write_adapter(model, root / "adapter", **lora)
    inputs = {"base": base, "adapter": adapter}
    codes = run_stage(lossless.run, root / "codes", MERGE, inputs)
    merged = run_stage(merge_stage.run, root / "merge", MERGE, inputs)
    settings = {
        **MERGE,
        "target": find_target("cpu-nf4").as_dict(),
        "accuracy_level": 0,
        "template": "auto",
        "base_name": "tiny",
        "layout": "all",
    }
    bundle = run_stage(
        export_stage.run,
        root / "bundle",
        settings,
        {"base": base, "merge": merged, "quantize": codes},
        kind="bundle",
    )
    return bundle, codes, adapter


@pytest.mark.parametrize(
    ("family", "tied", "lora"),
    [
        ("llama", True, {}),
        ("llama", False, {"target_modules": ["q_proj", "v_proj", "down_proj"]}),
        ("qwen2", True, {"use_rslora": True}),
        ("gemma3", True, {}),
    ],
)
def test_bundle_is_the_unmerged_reference(
    tiny_model: ModelMaker, tmp_path: Path, family: str, tied: bool, lora: dict[str, object]
) -> None:
    # Rows must be whole blocks of 64, which the tiny models' intermediate size of 160 is not.
    folder = tiny_model(family, tied=tied, intermediate=192)
    bundle, codes, adapter = carry(folder, tmp_path, **lora)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    names = set(QuantizedWeights.open(codes).plan.weights)
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.data = through_grid(parameter.data, TrainingGrid("nf4"))
    reference = attach(model, open_adapter(adapter))
    with torch.no_grad():
        wanted = reference(torch.tensor([IDS])).logits[0]
    opened = Bundle.open(bundle)
    logits = torch.from_numpy(GraphSession(opened, threads=1).logits(IDS))
    torch.testing.assert_close(logits, wanted, rtol=1e-3, atol=1e-3)
    answer = Runtime(opened, threads=1).generate_ids(IDS, max_new_tokens=8)
    assert answer == GraphSession(opened, threads=1).greedy(
        IDS, 8, stop_ids=Runtime(opened, threads=1).prompter.stop_ids
    )
    graph = onnx.load(bundle / "onnx" / "model_bnb4.onnx", load_external_data=False)
    assert sum(node.op_type == "MatMulBnb4" for node in graph.graph.node) > 0


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_codes_and_scales_are_bitsandbytes_own(kind: str, double: bool) -> None:
    weight = normal(40, 1024)
    grid = TrainingGrid(kind, double_quant=double)  # type: ignore[arg-type]
    codes, scales = grid_codes(weight, grid)
    theirs, state = functional.quantize_4bit(
        weight, blocksize=64, compress_statistics=double, quant_type=kind
    )
    assert torch.equal(codes.reshape(-1), theirs.reshape(-1))
    # What their own kernel reads with our scales is what it reads with its own, bit for bit.
    plain = functional.QuantState(
        absmax=scales.reshape(-1),
        shape=state.shape,
        code=state.code,
        blocksize=64,
        quant_type=kind,
        dtype=torch.float32,
    )
    assert torch.equal(
        functional.dequantize_4bit(theirs, plain), functional.dequantize_4bit(theirs, state)
    )


def test_what_cannot_stay_beside_the_base_is_refused(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    folder = tiny_model("llama", intermediate=192)
    with pytest.raises(InputError, match="only plain LoRA can"):
        carry(folder, tmp_path / "dora", use_dora=True)
    with pytest.raises(InputError, match=r"width 160 is no multiple of 64.*cpu-fp32"):
        carry(tiny_model("llama"), tmp_path / "narrow")
    base = run_stage(base_stage.run, tmp_path / "base", {}, {"model": folder})
    inputs = {"base": base, "adapter": write_adapter(folder, tmp_path / "adapter")}
    with pytest.raises(InputError, match="trained at full precision"):
        run_stage(
            lossless.run,
            tmp_path / "codes",
            {"merge": {"base": "dequantized", "grid": "none"}},
            inputs,
        )


def test_adapter_and_codes_are_stored_as_they_are(tiny_model: ModelMaker, tmp_path: Path) -> None:
    folder = tiny_model("llama", intermediate=192)
    _, codes, adapter = carry(folder, tmp_path)
    quantized = QuantizedWeights.open(codes)
    tensors = SafetensorsSource.from_file(adapter / "adapter_model.safetensors")
    name = "model.layers.0.self_attn.q_proj"
    stored = quantized.parts(f"{name}.weight")
    wanted = tensors.load(f"base_model.model.{name}.lora_A.weight")
    assert torch.equal(stored["lora_a"], wanted)
    # alpha / rank is 2, a power of two, so the scaling is exact as well.
    up = tensors.load(f"base_model.model.{name}.lora_B.weight")
    assert torch.equal(stored["lora_b"], 2 * up)
