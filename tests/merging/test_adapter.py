"""Adapters that PEFT would load without a word, refused with the file, the tensor and the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgepeft.adapters.folder import CONFIG, WEIGHTS
from edgepeft.checkpoints.skeleton import build_skeleton
from edgepeft.errors import InputError
from edgepeft.merging.adapter import attach, open_adapter
from edgepeft.merging.adapter_config import read_adapter_config
from tests.conftest import ModelMaker
from tests.stages import write_adapter

Tensors = dict[str, torch.Tensor]

STEM = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def model(tiny_model: ModelMaker) -> Path:
    return tiny_model("llama")


@pytest.fixture
def adapter(model: Path, tmp_path: Path) -> Path:
    """An adapter of its own for each test, to be spoiled."""
    return write_adapter(model, tmp_path / "adapter")


def edit(adapter: Path, **changes: Any) -> None:
    """Change keys of the adapter's configuration; ``...`` removes one."""
    path = adapter / CONFIG
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


def rewrite(adapter: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(adapter / WEIGHTS)
    change(tensors)
    save_file(tensors, adapter / WEIGHTS)


def deeper_config(model: Path, folder: Path) -> Path:
    """The configuration of a model with one layer more; a skeleton needs no weights."""
    config = json.loads((model / "config.json").read_text())
    folder.mkdir()
    config["num_hidden_layers"] += 1
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_every_tensor_arrives_in_float32_on_the_module_of_its_name(
    model: Path, adapter: Path
) -> None:
    rewrite(adapter, lambda tensors: tensors.update({k: v.half() for k, v in tensors.items()}))
    wrapped = attach(build_skeleton(model), open_adapter(adapter))
    stored = load_file(adapter / WEIGHTS)
    parameters = dict(wrapped.named_parameters())
    assert not wrapped.training
    for name, tensor in stored.items():
        loaded = parameters[name.replace(".weight", ".default.weight")]
        assert loaded.dtype == torch.float32
        assert torch.equal(loaded, tensor.float())
    assert all(p.is_meta for name, p in parameters.items() if "lora" not in name)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_name_their_tensor(adapter: Path, value: float) -> None:
    def spoil(tensors: Tensors) -> None:
        tensors[f"{STEM}.lora_B.weight"][1, 2] = value

    rewrite(adapter, spoil)
    with pytest.raises(InputError, match=rf"{WEIGHTS}: {STEM}\.lora_B\.weight holds NaN or inf"):
        open_adapter(adapter)


def drop(tensors: Tensors) -> None:
    del tensors[f"{STEM}.lora_A.weight"]


def smuggle_head(tensors: Tensors) -> None:
    tensors["base_model.model.lm_head.weight"] = torch.zeros(512, 64)


def smuggle_base(tensors: Tensors) -> None:
    tensors[f"{STEM}.base_layer.weight"] = torch.zeros(64, 64)


def smuggle_layer(tensors: Tensors) -> None:
    tensors[f"{STEM.replace('.0.', '.7.')}.lora_A.weight"] = torch.zeros(4, 64)


def widen(tensors: Tensors) -> None:
    tensors[f"{STEM}.lora_A.weight"] = torch.zeros(4, 65)


def transpose(tensors: Tensors) -> None:
    tensors[f"{STEM}.lora_A.weight"] = tensors[f"{STEM}.lora_A.weight"].T.contiguous()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (drop, rf"lacks {STEM}\.lora_A\.weight \(1 missing\)"),
        (smuggle_head, r"holds base_model\.model\.lm_head\.weight, which .* does not call for"),
        (smuggle_base, rf"holds {STEM}\.base_layer\.weight, which .* does not call for"),
        (smuggle_layer, r"holds .*layers\.7\..* does not call for \(1 such tensors\)"),
        (widen, rf"{STEM}\.lora_A\.weight is \(4, 65\), but .* call for \(4, 64\)"),
        (transpose, rf"{STEM}\.lora_A\.weight is \(64, 4\), but .* call for \(4, 64\)"),
        (dict.clear, r"lacks .* \(28 missing\); another base model\?"),
    ],
)
def test_every_tensor_is_accounted_for(
    model: Path, adapter: Path, change: Callable[[Tensors], object], match: str
) -> None:
    rewrite(adapter, change)
    with pytest.raises(InputError, match=rf"{WEIGHTS}: {match}"):
        attach(build_skeleton(model), open_adapter(adapter))


def test_another_base_is_noticed(tiny_model: ModelMaker, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is \(\d+, \d+\), but this model .* call for \("):
        attach(build_skeleton(tiny_model("qwen3")), open_adapter(adapter))
    # Saved from all-linear, PEFT lists every module; by short names a deeper model is adapted too.
    edit(adapter, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    rewrite(adapter, lambda tensors: [tensors.pop(k) for k in list(tensors) if "mlp" in k])
    attach(build_skeleton(tiny_model("llama")), open_adapter(adapter))
    deeper = build_skeleton(deeper_config(tiny_model("llama"), tmp_path / "deeper"))
    with pytest.raises(InputError, match=r"lacks .*layers\.2\..*\(8 missing\); another base"):
        attach(deeper, open_adapter(adapter))


def test_target_modules_the_model_does_not_have(model: Path, adapter: Path) -> None:
    edit(adapter, target_modules=["query_key_value"])
    with pytest.raises(InputError, match=rf"{CONFIG}: does not fit this model: .*query_key_value"):
        attach(build_skeleton(model), open_adapter(adapter))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"lora_alpha": 1e30}, r"lora_alpha: 1e\+30 is not a usable scale"),
        ({"lora_alpha": 0}, "lora_alpha: 0 is not a usable scale"),
        ({"lora_alpha": float("nan")}, "lora_alpha: nan is not a usable scale"),
        ({"lora_alpha": "8"}, "lora_alpha: 8 is not a usable scale"),
        ({"r": 0}, "r: 0 is not a rank"),
        ({"r": 2.5}, "r: 2.5 is not a rank"),
        ({"bias": "lora_only"}, "bias: lora_only is not supported yet"),
        ({"r": 5000}, "r: 5000 is not a rank; it must be a whole number from 1 to 4096"),
        ({"rank_pattern": {"q_proj": 10**9}}, r"rank_pattern\.q_proj: 1000000000 is not a rank"),
        ({"alpha_pattern": {"q_proj": 1e30}}, r"alpha_pattern\.q_proj: 1e\+30 is not a usable"),
        ({"rank_pattern": [4]}, "rank_pattern: must map module names to numbers"),
        ({"peft_type": "LORAX"}, "peft_type: LORAX: no such supported method; did you mean LORA"),
        ({"peft_type": "CARTRIDGE"}, "a cartridge can't be merged .* lora with a small rank"),
        ({"peft_type": "PREFIX_TUNING"}, "num_virtual_tokens: must be a whole number"),
        ({"peft_type": "SHIRA"}, "SHiRA is worked out of the base's weights"),
        ({"peft_type": ...}, "has no peft_type"),
    ],
)
def test_configurations_that_cannot_be_right(
    adapter: Path, changes: dict[str, Any], match: str
) -> None:
    edit(adapter, **changes)
    with pytest.raises(InputError, match=rf"{CONFIG}: {match}"):
        read_adapter_config(adapter)


def test_negative_alpha_is_somebodys_choice(adapter: Path) -> None:
    edit(adapter, lora_alpha=-8)
    assert read_adapter_config(adapter)["lora_alpha"] == -8


def only_pickle(adapter: Path) -> None:
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")


def no_weights(adapter: Path) -> None:
    (adapter / WEIGHTS).unlink()


def no_config(adapter: Path) -> None:
    (adapter / CONFIG).unlink()


def not_json(adapter: Path) -> None:
    (adapter / CONFIG).write_text("{")


def not_text(adapter: Path) -> None:
    (adapter / CONFIG).write_bytes(b"\xff\xfe{}")


def a_list(adapter: Path) -> None:
    (adapter / CONFIG).write_text("[]")


def cut_short(adapter: Path) -> None:
    (adapter / WEIGHTS).write_bytes((adapter / WEIGHTS).read_bytes()[:1000])


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (only_pickle, r"holds only pickle weights \(adapter_model.bin\), which can run code"),
        (no_weights, f"has no {WEIGHTS}"),
        (no_config, f"not a PEFT adapter folder .no {CONFIG}"),
        (not_json, f"{CONFIG}: not valid JSON"),
        (not_text, f"{CONFIG}: not valid JSON"),
        (a_list, f"{CONFIG}: not a JSON object"),
        (cut_short, f"{WEIGHTS}: not a readable safetensors file"),
    ],
)
def test_damaged_folders(adapter: Path, spoil: Callable[[Path], None], match: str) -> None:
    spoil(adapter)
    with pytest.raises(InputError, match=match):
        open_adapter(adapter)


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such adapter folder"):
        open_adapter(tmp_path / "nowhere")
