"""Adapters that PEFT would load without a word, refused with the file, the tensor and the reason."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgepeft.adapters.attach import attach, open_adapter
from edgepeft.adapters.config import read_adapter_config
from edgepeft.adapters.folder import CONFIG, WEIGHTS
from edgepeft.checkpoints.skeleton import build_skeleton
from edgepeft.errors import InputError
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
        ({"lora_alpha": float("nan")}, "not valid JSON .a number that is not finite, NaN"),
        ({"lora_alpha": "8"}, "lora_alpha: 8 is not a usable scale"),
        ({"r": 0}, "r: 0 is not a rank"),
        ({"r": 2.5}, "r: 2.5 is not a rank"),
        ({"bias": "boft_only"}, "bias: boft_only is not supported; none, all, lora_only are"),
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
        (not_text, f"{CONFIG} line 1: not UTF-8 text"),
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


def named(adapter: Path, change: Callable[[str], str]) -> None:
    tensors = {change(name): value for name, value in load_file(adapter / WEIGHTS).items()}
    save_file(tensors, adapter / WEIGHTS)


def of_a_larger_model(name: str) -> str:
    return name.replace("base_model.model.model.", "base_model.model.model.language_model.")


PLACED: dict[str, tuple[Callable[[str], str], dict[str, Any]]] = {
    "wrapped": (lambda name: f"module._orig_mod.{name}", {}),
    "named": (lambda name: name.replace(".weight", ".default.weight"), {}),
    "bare": (lambda name: name.removeprefix("base_model.model."), {}),
    "inside": (of_a_larger_model, {"target_modules": ["q_proj", "v_proj"]}),
    "inside, by a pattern": (
        of_a_larger_model,
        {"target_modules": r".*language_model.*\.(q_proj|v_proj)"},
    ),
    "inside, by names in full": (
        of_a_larger_model,
        {
            "target_modules": [
                f"model.language_model.layers.{layer}.self_attn.{kind}_proj"
                for layer in range(2)
                for kind in "qv"
            ]
        },
    ),
    "inside, but for some": (
        of_a_larger_model,
        {"target_modules": "all-linear", "exclude_modules": r".*(mlp|k_proj|o_proj|lm_head).*"},
    ),
}


@pytest.mark.parametrize("what", PLACED)
def test_keys_of_wrappers_and_of_larger_models_arrive_at_their_modules(
    model: Path, tmp_path: Path, what: str
) -> None:
    change, settings = PLACED[what]
    ranks: dict[str, Any] = {
        "rank_pattern": {"layers.1.*": 2},
        "alpha_pattern": {"layers.0.self_attn.v_proj": 3},
    }
    adapter = write_adapter(
        model, tmp_path / "adapter", target_modules=["q_proj", "v_proj"], **ranks
    )
    plain = attach(build_skeleton(model), open_adapter(adapter))
    named(adapter, change)
    if what.startswith("inside"):
        ranks["rank_pattern"] = {r"model\.language_model\.layers\.1\..*": 2}
    edit(adapter, **settings, **ranks)
    found = attach(build_skeleton(model), open_adapter(adapter))
    wanted = {name: value for name, value in plain.state_dict().items() if "lora" in name}
    parts = {name: value for name, value in found.state_dict().items() if "lora" in name}
    assert set(parts) == set(wanted)
    assert all(torch.equal(parts[name], wanted[name]) for name in wanted)
    scales = [
        {
            name: module.scaling["default"]
            for name, module in one.named_modules()
            if hasattr(module, "lora_A")
        }
        for one in (plain, found)
    ]
    assert scales[0] == scales[1]
    assert len(set(scales[0].values())) > 1


EVIL = r"([a-z0-9._]+)+!"


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": EVIL},
        {"exclude_modules": EVIL},
        {"rank_pattern": {EVIL: 4}},
        {"alpha_pattern": {EVIL: 4}},
        {"modules_to_save": [EVIL]},
        {"layers_to_transform": [0], "target_modules": ["q_proj"], "layers_pattern": [EVIL]},
    ],
)
def test_patterns_without_end_have_one(model: Path, adapter: Path, changes: dict[str, Any]) -> None:
    edit(adapter, **changes)
    with pytest.raises(InputError, match=rf"{CONFIG}: (rank_pattern: |alpha_pattern: )?matching"):
        attach(build_skeleton(model), open_adapter(adapter))


def test_a_list_of_all_there_could_be_is_read_in_no_time(model: Path, adapter: Path) -> None:
    """PEFT compares every entry with every module, and compiles a pattern for each anew."""
    many = [f"layers.{number}.nothing" for number in range(60_000)]
    config = json.loads((adapter / CONFIG).read_text())
    ranks = {re.escape(name): 4 for name in many[:4000]}
    edit(adapter, target_modules=[*many, *config["target_modules"]], rank_pattern=ranks)
    started = time.process_time()
    attach(build_skeleton(model), open_adapter(adapter))
    assert time.process_time() - started < 20


def overflow(tensors: Tensors) -> None:
    for half in "AB":
        tensors[f"{STEM}.lora_{half}.weight"].fill_(1e30)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (overflow, r"q_proj: its factors are not finite once multiplied out and scaled by 2"),
        (
            lambda t: t.update({f"{STEM}.lora_A.weight": torch.zeros(4, 64, dtype=torch.int64)}),
            rf"{STEM}\.lora_A\.weight is torch\.int64, and a factor is floating",
        ),
        (
            lambda t: t.update({f"{STEM}.lora_A.weight": torch.zeros(0, 64)}),
            rf"{STEM}\.lora_A\.weight is \(0, 64\), which holds nothing",
        ),
    ],
)
def test_factors_that_are_none(
    adapter: Path, change: Callable[[Tensors], object], match: str
) -> None:
    rewrite(adapter, change)
    with pytest.raises(InputError, match=match):
        open_adapter(adapter)


@pytest.mark.parametrize("method", ["LORA", "LOHA", "VERA", "HIRA"])
def test_a_rank_that_no_tensor_has_is_refused_before_peft_makes_room_for_it(
    model: Path, adapter: Path, method: str
) -> None:
    edit(adapter, peft_type=method, r=3000)
    with pytest.raises(InputError, match=r"r: 3000 contradicts the tensors"):
        open_adapter(adapter)


def test_a_token_that_the_model_does_not_have(model: Path, tmp_path: Path) -> None:
    adapter = write_adapter(
        model, tmp_path / "tokens", target_modules=["q_proj"], trainable_token_indices=[3, 5]
    )
    edit(adapter, trainable_token_indices=[3, 50_000])
    with pytest.raises(InputError, match=r"trainable_token_indices: 50000"):
        attach(build_skeleton(model), open_adapter(adapter))
