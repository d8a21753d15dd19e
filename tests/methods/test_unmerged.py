"""What stays beside the weights: seen by calibration, kept with a merged checkpoint, refused if it is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgepeft.adapters.bottleneck import BottleneckConfig, register
from edgepeft.adapters.methods import find_method
from edgepeft.adapters.unmerged import FILE
from edgepeft.calibration.data import calibration_batches
from edgepeft.calibration.layer_stream import LayerStream
from edgepeft.calibration.unmerged import carry
from edgepeft.checkpoints.base import checkpoint_folder
from edgepeft.checkpoints.skeleton import build_skeleton
from edgepeft.data.prompt import Prompter
from edgepeft.errors import InputError
from edgepeft.evaluation.reference_record import Reference
from edgepeft.merging import stage as merge_stage
from edgepeft.merging.stage import merged_source, open_unmerged
from edgepeft.quantization import stage as quantize_stage
from edgepeft.quantization.divergence import final_states
from edgepeft.quantization.packed_weights import QuantizedWeights
from tests.conftest import ModelMaker
from tests.methods.chain import CASES
from tests.quantize_settings import UNSAID
from tests.stages import make_job, run_stage

Carried = Callable[[str], Path]
BESIDE = [name for name, case in CASES.items() if find_method(case.name).carried != "weights"]
MERGE = {"merge": {"base": "dequantized", "grid": "auto"}}


@pytest.mark.parametrize("case", BESIDE)
def test_calibration_sees_the_model_with_it(carried: Carried, case: str) -> None:
    """The skeleton that rounding runs through gives the final states that PEFT's own model gave."""
    folder = carried(case)
    job = make_job(folder / "look", MERGE, {"base": folder / "base", "train": folder / "train"})
    weights, unmerged = merged_source(job), open_unmerged(job)
    assert unmerged is not None
    skeleton = build_skeleton(checkpoint_folder(folder / "base"))
    carry(skeleton, unmerged)
    reference = Reference.open(folder / "reference", folder / "base")
    text = (folder / "data" / "generic.txt").read_text()
    (batch,) = calibration_batches(
        [],
        Prompter.from_folder(folder / "base"),
        text,
        task_tokens=0,
        generic_tokens=256,
        seed=0,
        lead=unmerged.virtual_tokens,
    )
    (states,) = final_states(LayerStream(skeleton, weights), [batch], {})
    wanted = reference.hidden.load("generic.0")
    assert reference.probes("generic")[0].ids == batch.ids[0, unmerged.virtual_tokens :].tolist()
    # The last token predicts nothing that could be scored.
    torch.testing.assert_close(states[:-1], wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("case", ["prompt", "p_tuning", "prefix-nf4", "bottleneck"])
def test_a_merged_checkpoint_brings_it_along(carried: Carried, tmp_path: Path, case: str) -> None:
    folder = carried(case)
    inputs = {"base": folder / "base", "train": folder / "train"}
    merged = run_stage(merge_stage.run, tmp_path / "merge", MERGE, inputs)
    there = open_unmerged(make_job(tmp_path / "a", MERGE, {**inputs, "merge": merged}))
    lazy = open_unmerged(make_job(tmp_path / "b", MERGE, inputs))
    assert there is not None
    assert lazy is not None
    assert (there.carried, there.activation) == (lazy.carried, lazy.activation)
    assert set(there.tensors) == set(lazy.tensors)
    assert all(torch.equal(there.tensors[name], lazy.tensors[name]) for name in lazy.tensors)


@pytest.mark.parametrize("case", ["prompt", "prefix", "bottleneck"])
def test_rounding_is_calibrated_on_what_ships(carried: Carried, tmp_path: Path, case: str) -> None:
    """GPTQ's codes follow the activations, and those are others than the bare base's."""
    folder = carried(case)
    calibration = {"tokens": 128, "task_share": 0.0, "seed": 0}
    settings = {
        **MERGE,
        "quantize": {**UNSAID, "algorithm": "gptq", "calibration": calibration},
        "bits": 4,
        "data": {"template": "auto"},
    }
    inputs = {"base": folder / "base", "train": folder / "train"}
    merged = run_stage(merge_stage.run, tmp_path / "merge", MERGE, inputs)
    name = "model.layers.1.mlp.down_proj.weight"
    found = []
    for kept in (True, False):
        if not kept:
            (merged / FILE).unlink()
        quantized = run_stage(
            quantize_stage.run,
            tmp_path / f"quantize-{kept}",
            settings,
            {"base": folder / "base", "merge": merged},
        )
        found.append(QuantizedWeights.open(quantized).parts(name)["codes"])
    assert found[0].shape == found[1].shape
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"bottleneck_size": 9}, r"bottleneck_down.weight is \(8, 64\), .* \(9, 64\)"),
        ({"bottleneck_size": "8"}, r"bottleneck_size: 8 is not from 1 to 65536"),
        ({"placement": "pfeiffer", "target_modules": None}, r"holds .*o_proj.* \(8 such tensors\)"),
        ({"placement": "everywhere"}, r"placement: everywhere is not houlsby or pfeiffer"),
        ({"activation": "eval"}, r"activation: eval is not one of relu, gelu, silu, tanh"),
        ({"target_modules": ["q_proj"]}, r"houlsby placement adapts o_proj and down_proj"),
    ],
)
def test_bottlenecks_that_contradict_themselves_are_refused(
    carried: Carried, tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(carried("bottleneck") / "train" / "adapter", folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    job = make_job(tmp_path, MERGE, {"base": carried("bottleneck") / "base", "adapter": folder})
    with pytest.raises(InputError, match=match):
        open_unmerged(job)


def test_bottlenecks_lacking_a_tensor_are_refused(carried: Carried, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(carried("bottleneck") / "train" / "adapter", folder)
    tensors = load_file(str(folder / "adapter_model.safetensors"))
    del tensors["base_model.model.model.layers.1.mlp.down_proj.bottleneck_up.bias"]
    save_file(tensors, str(folder / "adapter_model.safetensors"))
    job = make_job(tmp_path, MERGE, {"base": carried("bottleneck") / "base", "adapter": folder})
    with pytest.raises(InputError, match=r"lacks .*layers\.1\.mlp\.down_proj\.bottleneck_up\.bias"):
        open_unmerged(job)


def test_bottlenecks_are_a_method_of_pefts(tiny_model: ModelMaker, tmp_path: Path) -> None:
    """They begin as the identity, can be switched off, and go through a folder that PEFT alone reads back."""
    from peft import PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    register()
    folder = tiny_model("llama")
    ids = torch.arange(5, 25)[None]

    def base() -> Any:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    with torch.no_grad():
        plain = base()(ids).logits
        config = BottleneckConfig(bottleneck_size=8, activation="gelu", task_type="CAUSAL_LM")
        model = get_peft_model(base(), config).eval()
        names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert len(names) == 2 * 2 * 4
        assert all("bottleneck_" in name for name in names)
        torch.testing.assert_close(model(ids).logits, plain)
        for name, parameter in model.named_parameters():
            if name in names:
                torch.nn.init.normal_(parameter, std=0.2)
        changed = model(ids).logits
        assert (changed - plain).abs().max() > 0.1
        with model.disable_adapter():
            torch.testing.assert_close(model(ids).logits, plain)
        model.save_pretrained(str(tmp_path / "adapter"))
        again = PeftModel.from_pretrained(base(), str(tmp_path / "adapter")).eval()
        torch.testing.assert_close(again(ids).logits, changed)
        with pytest.raises(NotImplementedError, match="not linear"):
            model.merge_and_unload()
