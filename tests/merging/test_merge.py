"""The merge holds exactly what the adapter was trained to be added to, tensor by tensor."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from bitsandbytes import functional
from safetensors.torch import save_file

from edgepeft.adapters.attach import open_adapter
from edgepeft.adapters.provenance import TrainingGrid
from edgepeft.adapters.training_grid import dequantized
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.skeleton import build_skeleton, linear_weight_names
from edgepeft.checkpoints.source import ComputedSource, TensorSource
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.merging.merge import merged
from tests.conftest import ModelMaker
from tests.stages import write_adapter
from tests.tiny import load_in_4_bits

NF4 = TrainingGrid("nf4")
NONE = TrainingGrid("none")
LAYER = "model.layers.1.self_attn.q_proj"

# Every way the scale of an update can be written down, and the method that is not a plain sum.
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank-stabilized": {"use_rslora": True},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 32}},
    "some modules": {"target_modules": ["v_proj", "up_proj"]},
    "dora": {"use_dora": True},
}


def merge(model: Path, adapter: Path, grid: TrainingGrid) -> TensorSource:
    """The stage's own chain: checkpoint, grid, adapter."""
    skeleton = build_skeleton(model)
    base = SafetensorsSource.from_folder(model)
    on_grid = dequantized(base, grid, linear_weight_names(skeleton))
    return merged(on_grid, skeleton, open_adapter(adapter))


def on_nf4(weight: torch.Tensor) -> torch.Tensor:
    """A weight as bitsandbytes holds it for QLoRA: NF4, blocks of 64, scales quantized as well."""
    codes, state = functional.quantize_4bit(
        weight.float(), blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    return functional.dequantize_4bit(codes, state)


def load(model: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
def test_merged_is_the_dequantized_weight_plus_scaled_b_times_a(
    tiny_model: ModelMaker, tmp_path: Path, family: str
) -> None:
    model = tiny_model(family)
    adapter = write_adapter(model, tmp_path / "adapter", r=4, lora_alpha=8)
    source, base = merge(model, adapter, NF4), SafetensorsSource.from_folder(model)
    parts = open_adapter(adapter).tensors
    names = linear_weight_names(build_skeleton(model))
    assert len(names) == 7 * (4 if family == "gemma3" else 2)
    for name in names:
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        update = 2.0 * parts[f"{stem}.lora_B.weight"] @ parts[f"{stem}.lora_A.weight"]
        # The update must be seen, or the comparison below would not notice its absence.
        assert update.abs().max() > 0.01
        torch.testing.assert_close(
            source.load(name), on_nf4(base.load(name)) + update, atol=1e-6, rtol=0
        )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
def test_on_the_original_base_it_is_pefts_own_merge_bit_for_bit(
    tiny_model: ModelMaker, tmp_path: Path, family: str, variant: str
) -> None:
    model = tiny_model(family)
    adapter = write_adapter(model, tmp_path / "adapter", **VARIANTS[variant])
    expected = peft.PeftModel.from_pretrained(load(model), str(adapter)).merge_and_unload()
    source = merge(model, adapter, NONE)
    weights = expected.state_dict()
    assert set(source.specs) <= set(weights)
    for name in source.specs:
        assert torch.equal(source.load(name), weights[name]), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_only_adapted_weights_change_and_only_quantized_ones_leave_their_dtype(
    tiny_model: ModelMaker, tmp_path: Path, dtype: str
) -> None:
    model = tiny_model("llama", tied=False, dtype=dtype)
    adapter = write_adapter(model, tmp_path / "adapter", target_modules=["v_proj"])
    base, source = SafetensorsSource.from_folder(model), merge(model, adapter, NF4)
    linear = set(linear_weight_names(build_skeleton(model)))
    kept = set(base.specs) - linear
    assert {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"} <= kept
    for name in kept:
        assert source.specs[name] == base.specs[name]
        assert torch.equal(source.load(name), base.load(name)), name
    for name in linear:
        assert source.specs[name].dtype == torch.float32
        # Weights that the adapter leaves alone were on the grid all the same.
        same = torch.equal(source.load(name), on_nf4(base.load(name)))
        assert same == ("v_proj" not in name), name


@pytest.mark.parametrize("dora", [False, True])
def test_merged_model_answers_as_the_unmerged_adapter_on_the_dequantized_base(
    tiny_model: ModelMaker, tmp_path: Path, dora: bool
) -> None:
    model = tiny_model("qwen2")
    adapter = write_adapter(model, tmp_path / "adapter", use_dora=dora)
    unmerged = load(model)
    for name in linear_weight_names(unmerged):
        parameter = unmerged.get_parameter(name)
        parameter.data = on_nf4(parameter.data)
    unmerged = peft.PeftModel.from_pretrained(unmerged, str(adapter)).eval()
    together, source = load(model), merge(model, adapter, NF4)
    together.load_state_dict({name: source.load(name) for name in source.specs})
    ids = torch.randint(4, 400, (1, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted, bare = unmerged(ids).logits, load(model)(ids).logits
        got = together(ids).logits
    assert (wanted - bare).abs().max() > 0.5
    torch.testing.assert_close(got, wanted, atol=2e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:Merge lora module to 4-bit")
def test_pefts_merge_back_onto_nf4_loses_what_ours_keeps(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    """The reason for this project: an update as small as training makes it drowns in the grid."""
    model = tiny_model("llama")
    adapter = write_adapter(model, tmp_path / "adapter")
    path = adapter / "adapter_model.safetensors"
    small = {
        # Two per cent of the weights' own size, what a short training leaves behind.
        name: tensor * 0.02 if "lora_B" in name else tensor
        for name, tensor in open_adapter(adapter).tensors.items()
    }
    save_file(small, path, metadata={"format": "pt"})
    four_bit = load_in_4_bits(model)
    theirs = peft.PeftModel.from_pretrained(four_bit, str(adapter)).merge_and_unload()
    weight = theirs.get_submodule(LAYER).weight
    base = on_nf4(SafetensorsSource.from_folder(model).load(f"{LAYER}.weight"))
    stem = f"base_model.model.{LAYER}"
    update = 2.0 * small[f"{stem}.lora_B.weight"] @ small[f"{stem}.lora_A.weight"]
    ours = merge(model, adapter, NF4).load(f"{LAYER}.weight") - base - update
    lost = functional.dequantize_4bit(weight.data, weight.quant_state) - base - update
    assert update.norm() / base.norm() < 0.05
    assert ours.norm() < 1e-5 * update.norm()
    assert lost.norm() > 0.5 * update.norm()


def test_a_tensor_is_the_same_in_any_order_and_however_often_it_is_asked_for(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    model = tiny_model("llama")
    source = merge(model, write_adapter(model, tmp_path / "adapter"), NF4)
    first = {name: source.load(name) for name in source.specs}
    for name in reversed(list(source.specs)):
        assert torch.equal(source.load(name), first[name])


def test_nothing_but_the_tensor_at_hand_is_kept(tiny_model: ModelMaker, tmp_path: Path) -> None:
    model = tiny_model("llama")
    adapter = open_adapter(write_adapter(model, tmp_path / "adapter"))
    stored, buffers = SafetensorsSource.from_folder(model), []

    def compute(name: str) -> torch.Tensor:
        # A tensor over numpy's memory holds the array for as long as its storage lives.
        array = stored.load(name).numpy().copy()
        buffers.append(weakref.ref(array))
        return torch.from_numpy(array)

    skeleton = build_skeleton(model)
    base = ComputedSource(stored.specs, compute)
    source = merged(dequantized(base, NF4, linear_weight_names(skeleton)), skeleton, adapter)
    assert not buffers
    most = 0
    for name in source.specs:
        tensor = source.load(name)
        most = max(most, sum(buffer() is not None for buffer in buffers))
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
    assert len(buffers) == len(source.specs)
    assert most <= 1
    held = [name for name, p in skeleton.named_parameters() if "lora" not in name and not p.is_meta]
    assert held == []


def test_damaged_base_is_named(tiny_model: ModelMaker, tmp_path: Path) -> None:
    model = tiny_model("llama")
    adapter = open_adapter(write_adapter(model, tmp_path / "adapter"))
    stored = SafetensorsSource.from_folder(model)

    def compute(name: str) -> torch.Tensor:
        tensor = stored.load(name)
        if name == f"{LAYER}.weight":
            tensor[3, 5] = torch.inf
        return tensor

    source = merged(ComputedSource(stored.specs, compute), build_skeleton(model), adapter)
    source.load("model.layers.0.self_attn.q_proj.weight")
    with pytest.raises(EdgepeftError, match=rf"^{LAYER}\.weight: not finite"):
        source.load(f"{LAYER}.weight")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("target", "match"),
    [
        (["lm_head"], "changes the head by itself, and this model's head and embedding are one"),
        # An expression names no module, so only the attached adapter shows what it adapts.
        (".*embed_tokens", "changes the embedding by itself, and this model's head and embedding"),
    ],
)
def test_half_of_a_tied_model_is_not_merged(
    tiny_model: ModelMaker, tmp_path: Path, target: Any, match: str
) -> None:
    model = tiny_model("llama", tied=True)
    adapter = write_adapter(model, tmp_path / "adapter", target_modules=target)
    with pytest.raises(InputError, match=match):
        merge(model, adapter, NF4)


@pytest.mark.filterwarnings("ignore")
def test_an_adapted_embedding_is_merged_with_or_without_the_embedding_beside_it(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    model, name = tiny_model("llama", tied=False), "model.embed_tokens.weight"
    adapter = write_adapter(model, tmp_path / "adapter", target_modules=".*embed_tokens")
    whole = merge(model, adapter, NF4).load(name)
    path = adapter / "adapter_model.safetensors"
    parts = {name: t for name, t in open_adapter(adapter).tensors.items() if "lora" in name}
    assert len(parts) < len(open_adapter(adapter).tensors)
    save_file(parts, path, metadata={"format": "pt"})
    assert torch.equal(merge(model, adapter, NF4).load(name), whole)
    assert not torch.equal(SafetensorsSource.from_folder(model).load(name), whole)
