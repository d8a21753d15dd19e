"""An adapter of another base of the same shape is refused by what its folder says of its own base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgepeft.adapters.config import INITIAL
from edgepeft.adapters.provenance import Provenance, TrainingGrid
from edgepeft.checkpoints import base as base_stage
from edgepeft.checkpoints.fingerprint import fingerprint
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.errors import InputError
from edgepeft.merging.settings import AdapterSettings
from edgepeft.merging.stage import merged_source
from edgepeft.stages.job import Job
from tests.conftest import ModelMaker
from tests.stages import make_job, run_stage, write_adapter
from tests.tiny import write_tiny_model

NONE = TrainingGrid("none")


def job(model: Path, adapter: Path, root: Path, **merge: object) -> Job[AdapterSettings]:
    base = run_stage(base_stage.run, root / "base", {}, {"model": model})
    settings = {"merge": {"base": "dequantized", "grid": "auto", **merge}}
    return make_job(root / "out", settings, {"base": base, "adapter": adapter})


def named(adapter: Path, name: object) -> Path:
    path = adapter / "adapter_config.json"
    config = {**json.loads(path.read_text()), "base_model_name_or_path": name}
    path.write_text(json.dumps(config))
    return adapter


def test_fingerprint_is_of_the_weights_not_of_their_files(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    def of(folder: Path) -> str:
        return fingerprint(SafetensorsSource.from_folder(folder))

    half = write_tiny_model(tmp_path / "half", "llama", dtype="bfloat16")
    wide = tmp_path / "wide"
    wide.mkdir()
    tensors = load_file(half / "model.safetensors")
    save_file({k: v.float() for k, v in tensors.items()}, wide / "model.safetensors")
    assert of(half) == of(wide)
    assert of(tiny_model("llama")) == of(tiny_model("llama", shards=2))
    assert of(tiny_model("llama")) != of(half)
    assert of(tiny_model("llama")) != of(tiny_model("llama", seed=1))


def test_adapter_of_another_seed_is_refused_by_its_record(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    own, other = tiny_model("llama"), tiny_model("llama", seed=1)
    adapter = write_adapter(own, tmp_path / "adapter")
    record = {"name": "own", "fingerprint": fingerprint(SafetensorsSource.from_folder(own))}
    Provenance(NONE, (), "", "lora", record).write(adapter)
    merged_source(job(own, adapter, tmp_path / "right"))
    with pytest.raises(InputError, match=r"adapter: was trained on own, whose weights are not"):
        merged_source(job(other, adapter, tmp_path / "wrong"))
    merged_source(job(other, adapter, tmp_path / "allowed", allow_base_mismatch=True))


def test_path_that_peft_left_is_looked_at_where_it_is_still_there(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    own, other = tiny_model("llama"), tiny_model("llama", seed=1)
    adapter = named(write_adapter(own, tmp_path / "adapter"), str(own))
    merged_source(job(own, adapter, tmp_path / "right"))
    with pytest.raises(InputError, match=r"adapter_config\.json: was trained on .* --allow-base"):
        merged_source(job(other, adapter, tmp_path / "wrong"))
    # A name alone proves nothing either way.
    for name in ("somebody/model", None, str(tmp_path / "gone")):
        named(adapter, name)
        merged_source(job(other, adapter, tmp_path / f"named-{str(name)[-4:].strip('/')}"))


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_adapters_made_elsewhere_that_changed_their_base_get_it_back(
    tiny_model: ModelMaker, tmp_path: Path, init: str
) -> None:
    """PEFT saves such an adapter as it is, and changes the base again whenever it loads it."""
    import peft
    import transformers

    model = tiny_model("llama")
    load = transformers.AutoModelForCausalLM.from_pretrained
    config = peft.LoraConfig(r=4, init_lora_weights=init, target_modules="all-linear")
    wrapped = peft.get_peft_model(load(model, dtype=torch.float32), config)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn_like(parameter) * 0.05)
    wrapped.save_pretrained(str(tmp_path / "adapter"))
    merged = wrapped.merge_and_unload()
    grid = {"grid": "none"}
    source = merged_source(job(model, tmp_path / "adapter", tmp_path / "run", **grid))
    plain = SafetensorsSource.from_folder(model)
    for name in source.specs:
        torch.testing.assert_close(
            source.load(name), merged.get_parameter(name).data, atol=1e-5, rtol=0
        )
    name = "model.layers.0.self_attn.q_proj.weight"
    assert (source.load(name) - plain.load(name)).abs().max() > 0.01


def test_starts_that_cannot_be_repeated_say_what_to_do(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    model = tiny_model("llama")
    adapter = write_adapter(model, tmp_path / "adapter")
    path = adapter / "adapter_config.json"
    for init in ("loftq", "corda", "pissa_niter_4"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "init_lora_weights": init}))
        with pytest.raises(InputError, match=f"{init} changed the base .*weight_conversion"):
            merged_source(job(model, adapter, tmp_path / init))
    assert not (adapter / INITIAL).exists()


@pytest.mark.parametrize(
    ("spoiled", "match"),
    [
        ({"NAME.a": (4, 64)}, r"q_proj\.weight has factors of \(4, 64\) and \(\), and the weight"),
        ({"NAME.a": (4, 64), "NAME.b": (64, 5)}, r"has factors of \(4, 64\) and \(64, 5\)"),
        ({"NAME.a": (4, 32), "NAME.b": (64, 4)}, r"and the weight is \(64, 64\)"),
        ({"other.weight.a": (4, 64), "other.weight.b": (64, 4)}, "which the base lacks"),
        ({"NAME.a": (4, 64), "NAME.b": (64, 4), "NAME.c": (1,)}, "tensors that are no factors"),
    ],
)
def test_a_start_kept_beside_an_adapter_is_looked_at(
    tiny_model: ModelMaker, tmp_path: Path, spoiled: dict[str, tuple[int, ...]], match: str
) -> None:
    model = tiny_model("llama")
    adapter = write_adapter(model, tmp_path / "adapter")
    name = "model.layers.0.self_attn.q_proj.weight"
    start = {key.replace("NAME", name): torch.zeros(shape) for key, shape in spoiled.items()}
    save_file(start, adapter / INITIAL)
    with pytest.raises(InputError, match=rf"{INITIAL}: .*{match}"):
        merged_source(job(model, adapter, tmp_path / "run"))


def test_a_start_is_finite(tiny_model: ModelMaker, tmp_path: Path) -> None:
    model = tiny_model("llama")
    adapter = write_adapter(model, tmp_path / "adapter")
    name = "model.layers.0.self_attn.q_proj.weight"
    start = {f"{name}.a": torch.full((4, 64), torch.nan), f"{name}.b": torch.zeros(64, 4)}
    save_file(start, adapter / INITIAL)
    with pytest.raises(InputError, match=rf"{INITIAL}: .*\.a holds NaN or infinite values"):
        merged_source(job(model, adapter, tmp_path / "run"))
