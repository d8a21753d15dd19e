"""Adding and removing adapters: what is refused and why, and that nothing else is touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgepeft.errors import InputError
from edgepeft.hot_swap.peft_folder import read_lora
from edgepeft.hot_swap.store import add_adapter, remove_adapter
from edgepeft.runtime import Bundle, Runtime
from edgepeft.runtime.adapters import adapter_names, open_adapter
from edgepeft.runtime.slots import slots_of
from tests.command import edgepeft
from tests.runtime.test_light import imported_by
from tests.stages import Find, write_adapter

Change = Callable[[Path], None]
Q = "base_model.model.model.layers.0.self_attn.q_proj"


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Modification time and content of every file."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def edit(**changes: Any) -> Change:
    """Change keys of adapter_config.json."""

    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def tensors(edit: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    """Change the tensors."""

    def change(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        values = load_file(path)
        edit(values)
        save_file({name: value.contiguous() for name, value in values.items()}, path)

    return change


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def of_another_base(folder: Path) -> None:
    record = {
        "grid": {"kind": "nf4", "block_size": 64, "double_quant": True},
        "quantized": None,
        "base": {"name": "another", "fingerprint": "0" * 64},
    }
    (folder / "edgepeft_training.json").write_text(json.dumps(record))


def no_safetensors(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"no")


def started_in_the_base(folder: Path) -> None:
    save_file({"x.a": torch.zeros(1)}, folder / "edgepeft_initial.safetensors")


REFUSED: dict[str, tuple[Change, str]] = {
    "pickle": (pickled, "only pickle weights"),
    "other base": (of_another_base, "was trained on another.*--allow-base-mismatch"),
    "nan": (tensors(lambda t: t[f"{Q}.lora_A.weight"].fill_(float("nan"))), "NaN or infinite"),
    "infinite": (tensors(lambda t: t[f"{Q}.lora_B.weight"].fill_(float("inf"))), "NaN or inf"),
    "missing": (tensors(lambda t: t.pop(f"{Q}.lora_B.weight")), r"lacks .*q_proj.lora_B.weight"),
    "missing module": (
        tensors(lambda t: [t.pop(f"{Q}.lora_{half}.weight") for half in "AB"]),
        r"lacks .*layers.0.self_attn.q_proj.lora_A.weight",
    ),
    "extra": (tensors(lambda t: t.update({"lm_head.weight": torch.zeros(2)})), "holds lm_head"),
    "extra module": (edit(target_modules=["v_proj"]), "which adapter_config.json does not call"),
    "unknown module": (
        edit(target_modules=["q_proj", "w_proj"], exclude_modules=None),
        "does not call for",
    ),
    "rank": (edit(r=3), "call for"),
    "rank too large": (edit(r=64), "call for"),
    "alpha": (edit(lora_alpha=1e30), "not a usable scale"),
    "shape": (
        tensors(lambda t: t.update({f"{Q}.lora_A.weight": torch.zeros(4, 63)})),
        r"factors of \(4, 63\)",
    ),
    "dora": (edit(use_dora=True), "hot-swap bundles can't load use_dora"),
    "saved modules": (edit(modules_to_save=["norm"]), "can't load modules_to_save"),
    "method": (edit(peft_type="LOHA"), "hot-swap bundles can't load LOHA.*edgepeft compress"),
    "unknown method": (edit(peft_type="LORAX"), "no such supported method"),
    "pissa": (edit(init_lora_weights="pissa"), "changed the base under this adapter"),
    "initial factors": (started_in_the_base, "changed the base under this adapter"),
    "infinite once scaled": (
        tensors(lambda t: [t[f"{Q}.lora_{half}.weight"].fill_(1e30) for half in "AB"]),
        "q_proj: its factors are not finite once multiplied out and scaled",
    ),
    "nothing": (
        tensors(lambda t: t.update({f"{Q}.lora_A.weight": torch.zeros(0, 64)})),
        "which holds nothing",
    ),
    "whole numbers": (
        tensors(lambda t: t.update({f"{Q}.lora_A.weight": torch.zeros(4, 64).long()})),
        "has dtype I64, and a factor is floating",
    ),
    "parameters": (edit(target_parameters=["q_proj.weight"]), "can't load target_parameters"),
    "layers by a name": (
        edit(target_modules=["q_proj"], layers_to_transform=[0], layers_pattern="blocks"),
        "layers_pattern: only layers is read here",
    ),
    "layers repeated": (edit(layer_replication=[[0, 2]]), "layer_replication: repeats layers"),
    "two adapters": (
        tensors(
            lambda t: [
                t.update({k.replace("lora_A.", f"lora_A.{i % 2}."): t.pop(k)})
                for i, k in enumerate(list(t))
                if "lora_A" in k
            ]
        ),
        "names the adapter 0 and .* does not",
    ),
    "a new key": (edit(use_marvel=True), "use_marvel: not known to this version"),
    "not safetensors": (
        no_safetensors,
        "not a readable safetensors file",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_wrong_adapters_are_refused_in_one_line(
    built: Find, own: Path, tmp_path: Path, what: str
) -> None:
    change, message = REFUSED[what]
    folder = Path(shutil.copytree(built("llama", "adapters") / "one", tmp_path / "adapter"))
    change(folder)
    before = state(own)
    with pytest.raises(InputError, match=message) as caught:
        add_adapter(Bundle.open(own), "new", folder)
    assert "\n" not in str(caught.value)
    assert state(own) == before


def test_what_the_bundle_has_no_place_for_is_refused(built: Find, tmp_path: Path) -> None:
    folder = shutil.copytree(built("some", "cpu-fp32"), tmp_path / "bundle")
    bundle = Bundle.open(folder)
    with pytest.raises(InputError, match=r"has no slot for \(it has slots for .*v_proj"):
        add_adapter(bundle, "one", built("llama", "adapters") / "one")
    wide = Path(shutil.copytree(built("llama", "adapters") / "few", tmp_path / "wide"))
    add_adapter(bundle, "few", wide)
    edit(r=16)(wide)
    tensors(
        lambda t: t.update(
            {
                name: torch.zeros(16, value.shape[1])
                if "lora_A" in name
                else torch.zeros(len(value), 16)
                for name, value in t.items()
            }
        )
    )(wide)
    with pytest.raises(InputError, match="rank 16, and this bundle takes up to 8"):
        add_adapter(bundle, "wide", wide)


def test_a_mismatch_can_be_allowed(built: Find, own: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built("llama", "adapters") / "one", tmp_path / "adapter"))
    of_another_base(folder)
    add_adapter(Bundle.open(own), "forced", folder, allow_base_mismatch=True)
    assert adapter_names(Bundle.open(own)) == ["forced"]


def test_adding_touches_no_other_file(built: Find, own: Path) -> None:
    bundle = Bundle.open(own)
    add_adapter(bundle, "one", built("llama", "adapters") / "one")
    before = state(own)
    add_adapter(bundle, "two", built("llama", "adapters") / "two")
    after = state(own)
    assert {name: after[name] for name in before} == before
    assert {name.rpartition("/")[0] for name in after.keys() - before.keys()} == {"adapters/two"}
    remove_adapter(bundle, "two")
    assert state(own) == before
    with pytest.raises(InputError, match="an adapter of this name exists"):
        add_adapter(bundle, "one", built("llama", "adapters") / "two")
    add_adapter(bundle, "one", built("llama", "adapters") / "two", replace=True)
    assert open_adapter(bundle, "one").facts["rank"] == 8


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "Base", "x" * 200])
def test_names_stay_in_their_folder(built: Find, own: Path, name: str) -> None:
    with pytest.raises(InputError, match="not a name for an adapter"):
        add_adapter(Bundle.open(own), name, built("llama", "adapters") / "one")


def test_an_adapter_belongs_to_one_base(built: Find, filled: Path, tmp_path: Path) -> None:
    """A folder copied into another bundle of the same shape is refused by the hash of what it was made for."""
    other = shutil.copytree(built("llama-plain", "cpu-fp32"), tmp_path / "other")
    shutil.copytree(filled / "adapters" / "one", other / "adapters" / "one")
    with pytest.raises(InputError, match="was made for another base"):
        open_adapter(Bundle.open(other), "one")


def test_damage_shows(built: Find, own: Path) -> None:
    add_adapter(Bundle.open(own), "one", built("llama", "adapters") / "one")
    path = own / "adapters" / "one" / "adapter.onnx_adapter"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="other SHA-256"):
        open_adapter(Bundle.open(own), "one", check="hashes")
    path.write_bytes(data[:-8])
    with pytest.raises(InputError, match="bytes, the manifest says"):
        Runtime(own, threads=1).load_adapter("one")


def test_an_adapter_in_use_is_not_removed(built: Find, own: Path) -> None:
    bundle = Bundle.open(own)
    add_adapter(bundle, "one", built("llama", "adapters") / "one")
    runtime = Runtime(bundle, threads=1)
    # A stop string that never comes makes every token a piece of its own.
    stream = runtime.stream("hi", adapter="one", max_new_tokens=64, stop=["@@@@@@"])
    next(stream)
    with pytest.raises(InputError, match="is in use"):
        remove_adapter(bundle, "one")
    with pytest.raises(InputError, match="is in use"):
        add_adapter(bundle, "one", built("llama", "adapters") / "two", replace=True)
    stream.close()
    remove_adapter(bundle, "one")
    assert adapter_names(bundle) == []


def test_a_device_can_add_an_adapter(built: Find, own: Path) -> None:
    """Nothing heavier than numpy, safetensors and onnxruntime is imported on the way."""
    code = (
        "from edgepeft.hot_swap.store import add_adapter; from edgepeft.runtime import Bundle; "
        f"add_adapter(Bundle.open({str(own)!r}), 'one', "
        f"__import__('pathlib').Path({str(built('llama', 'adapters') / 'one')!r}))"
    )
    modules = imported_by(code)
    assert {"onnxruntime", "safetensors"} <= modules
    assert not modules & {"torch", "transformers", "peft", "onnx", "onnx_ir"}


def test_the_command(built: Find, own: Path, tmp_path: Path) -> None:
    source = built("llama", "adapters") / "one"
    done = edgepeft("adapters", "add", own, source, "--name", "mine", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rank"] == 4
    assert json.loads(edgepeft("adapters", "list", own, "--json").stdout)[0]["name"] == "mine"
    wrong = edgepeft("run", own, "hi", "--adapter", "mina")
    assert wrong.returncode == 2
    assert "did you mean mine?" in wrong.stderr
    plain = edgepeft("run", own, "hi", "--max-new-tokens", "8", "--json")
    adapted = edgepeft("run", own, "hi", "--max-new-tokens", "8", "--json", "--adapter", "mine")
    assert adapted.returncode == 0, adapted.stderr
    assert json.loads(plain.stdout)["text"] != json.loads(adapted.stdout)["text"]
    whole = edgepeft("verify", own, "--json")
    assert json.loads(whole.stdout)["adapters"] == ["mine"]
    assert edgepeft("adapters", "remove", own, "mine").returncode == 0
    assert json.loads(edgepeft("adapters", "list", own, "--json").stdout) == []


EVIL = r"([a-z0-9._]+)+!"


def named(change_name: Callable[[str], str]) -> Change:
    return tensors(lambda t: [t.update({change_name(k): t.pop(k)}) for k in list(t)])


def of_a_larger_model(name: str) -> str:
    return name.replace("base_model.model.model.", "base_model.model.model.language_model.")


HARMLESS: dict[str, list[Change]] = {
    "the adapter's name": [named(lambda name: name.replace(".weight", ".default.weight"))],
    "a wrapper": [named(lambda name: f"module._orig_mod.{name}")],
    "no prefix": [named(lambda name: name.removeprefix("base_model.model."))],
    "a larger model": [
        named(of_a_larger_model),
        edit(
            target_modules=[
                "q_proj",
                "k_proj",
                "v_proj",
                "o_proj",
                "gate_proj",
                "up_proj",
                "down_proj",
            ]
        ),
    ],
    "a larger model, by a pattern": [
        named(of_a_larger_model),
        edit(target_modules=r"model\.language_model\.layers\.\d+\..*_proj"),
    ],
}


@pytest.mark.parametrize("what", HARMLESS)
def test_harmless_names_are_the_same_adapter(
    built: Find, own: Path, tmp_path: Path, what: str
) -> None:
    plain = built("llama", "adapters") / "one"
    folder = Path(shutil.copytree(plain, tmp_path / "adapter"))
    for change in HARMLESS[what]:
        change(folder)
    slots = slots_of(Bundle.open(own))
    found, wanted = read_lora(folder, slots), read_lora(plain, slots)
    assert set(found.factors) == set(wanted.factors)
    for module, (a, b) in wanted.factors.items():
        assert (found.factors[module][0] == a).all()
        assert (found.factors[module][1] == b).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": EVIL},
        {"exclude_modules": EVIL},
        {"rank_pattern": {EVIL: 4}},
        {"alpha_pattern": {EVIL: 4}},
    ],
)
def test_patterns_without_end_have_one(
    built: Find, own: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(built("llama", "adapters") / "one", tmp_path / "adapter"))
    edit(**changes)(folder)
    with pytest.raises(InputError, match="matching its patterns with the names of modules takes"):
        add_adapter(Bundle.open(own), "new", folder)


def test_layers_and_patterns_mean_what_they_mean_to_peft(
    built: Find, own: Path, tmp_path: Path
) -> None:
    model = built("llama", "model")
    options: dict[str, Any] = {
        "target_modules": ["q_proj", "model.layers.1.self_attn.o_proj", "down_proj"],
        "layers_to_transform": [0],
        "exclude_modules": ["layers.0.mlp.down_proj"],
        "rank_pattern": {r"layers\.1\..*": 2, "q_proj": 3},
        "alpha_pattern": {"o_proj": 5},
    }
    adapter = write_adapter(model, tmp_path / "adapter", **options)
    found = read_lora(adapter, slots_of(Bundle.open(own)))
    stored = load_file(adapter / "adapter_model.safetensors")
    assert {f"base_model.model.{name}.lora_A.weight" for name in found.factors} == {
        name for name in stored if "lora_A" in name
    }
    output = "model.layers.1.self_attn.o_proj"
    a, b = found.factors[output]
    assert a.shape[0] == 2
    wanted = stored[f"base_model.model.{output}.lora_B.weight"].numpy() * (5 / 2)
    assert abs(b - wanted).max() < 1e-6
