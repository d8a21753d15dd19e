"""Combining adapters is PEFT's own arithmetic, here held against PEFT on a whole model; and what it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from edgepeft.adapters.attach import open_adapter
from edgepeft.adapters.provenance import Provenance, TrainingGrid
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.combination.extract import extract_folder
from edgepeft.combination.folders import combine_folders, compress_folder
from edgepeft.combination.methods import METHODS, REGMEAN, Combination
from edgepeft.errors import InputError
from edgepeft.merging.lora import LoraFactors, lora_factors
from tests.conftest import ModelMaker
from tests.stages import write_adapter


@pytest.fixture
def model(tiny_model: ModelMaker) -> Path:
    return tiny_model("llama")


def load(model: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()


def result(folder: Path) -> LoraFactors:
    return lora_factors(open_adapter(folder))


def pefts_own(model: Path, adapters: list[Path], how: Combination) -> dict[str, torch.Tensor]:
    """The same combination by PEFT on the real model: changes by module name."""
    wrapped = peft.PeftModel.from_pretrained(load(model), str(adapters[0]), adapter_name="0")
    for index, adapter in enumerate(adapters[1:], 1):
        wrapped.load_adapter(str(adapter), adapter_name=str(index))
    torch.manual_seed(how.seed)
    wrapped.add_weighted_adapter(
        [str(index) for index in range(len(adapters))],
        list(how.weights),
        "new",
        combination_type=how.method,
        density=how.density,
        svd_rank=how.rank,
    )
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("new").detach()
        for name, module in wrapped.named_modules()
        if "new" in getattr(module, "lora_A", {})
    }


def bernoulli(input: torch.Tensor) -> torch.Tensor:
    """Draws that hang on the shape alone: PEFT goes through the real model's modules in another order."""
    generator = torch.Generator().manual_seed(hash(tuple(input.shape)) % 2**31)
    return (torch.rand(input.shape, generator=generator) < input).float()


@pytest.mark.parametrize("method", [name for name in METHODS if name != REGMEAN])
def test_every_method_is_pefts(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(torch, "bernoulli", bernoulli)
    adapters = [write_adapter(model, tmp_path / str(i), seed=i, lora_alpha=8 + i) for i in (1, 2)]
    drops = any(word in method for word in ("ties", "dare", "magnitude"))
    how = Combination(
        method, (0.7, -0.4), density=0.5 if drops else None, rank=5 if "svd" in method else None
    )
    combine_folders(adapters, how, tmp_path / "new")
    ours = result(tmp_path / "new")
    theirs = pefts_own(model, adapters, how)
    assert set(ours.factors) == set(theirs)
    assert max(float(delta.abs().max()) for delta in theirs.values()) > 0.01
    for name, delta in theirs.items():
        torch.testing.assert_close(ours.delta(name), delta, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["cat", "svd"])
def test_exact_methods_are_the_weighted_sum_whatever_the_ranks(
    model: Path, tmp_path: Path, method: str
) -> None:
    small = write_adapter(model, tmp_path / "small", seed=1, r=2, use_rslora=True)
    large = write_adapter(
        model,
        tmp_path / "large",
        seed=2,
        r=6,
        rank_pattern={"q_proj": 3},
        alpha_pattern={"v_proj": 24},
        target_modules=["q_proj", "v_proj", "up_proj"],
    )
    how = Combination(method, (1.0, -2.0), rank=8 if method == "svd" else None)
    combine_folders([small, large], how, tmp_path / "new")
    ours, first, second = (result(folder) for folder in (tmp_path / "new", small, large))
    assert set(ours.factors) == set(first.factors) | set(second.factors)
    for name in ours.factors:
        wanted = first.delta(name)
        if name in second.factors:
            wanted = wanted - 2.0 * second.delta(name)
        torch.testing.assert_close(ours.delta(name), wanted, atol=1e-5, rtol=0)


def test_result_is_an_adapter_that_peft_loads(model: Path, tmp_path: Path) -> None:
    adapters = [write_adapter(model, tmp_path / str(i), seed=i) for i in (1, 2)]
    combine_folders(adapters, Combination("cat", (1.0, 1.0)), tmp_path / "new")
    both = peft.PeftModel.from_pretrained(load(model), str(adapters[0]), adapter_name="0")
    both.load_adapter(str(adapters[1]), adapter_name="1")
    both.base_model.set_adapter(["0", "1"])
    one = peft.PeftModel.from_pretrained(load(model), str(tmp_path / "new"))
    ids = torch.randint(4, 400, (1, 16), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(one(ids).logits, both(ids).logits, atol=1e-4, rtol=0)


def write_other(model: Path, folder: Path, config: peft.PeftConfig) -> Path:
    """An adapter of any method, its parameters moved off their start."""
    torch.manual_seed(3)
    wrapped = peft.get_peft_model(load(model), config)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn_like(parameter) * 0.05)
    wrapped.save_pretrained(str(folder))
    (folder / "README.md").unlink()
    Provenance(TrainingGrid("none"), (), "").write(folder)
    return folder


@pytest.mark.parametrize(
    "config",
    [
        peft.LoHaConfig(r=4, target_modules="all-linear"),
        peft.LoKrConfig(r=4, target_modules="all-linear"),
        peft.VeraConfig(r=8, target_modules="all-linear"),
    ],
    ids=["loha", "lokr", "vera"],
)
def test_other_methods_become_lora_as_pefts_own_conversion_makes_them(
    model: Path, tmp_path: Path, config: peft.PeftConfig
) -> None:
    adapter = write_other(model, tmp_path / "other", config)
    facts = compress_folder(adapter, 6, tmp_path / "new", model=model)
    wrapped = peft.PeftModel.from_pretrained(load(model), str(adapter))
    _, tensors = peft.convert_to_lora(wrapped, rank=6)
    ours = result(tmp_path / "new")
    for name in ours.factors:
        stem = f"base_model.model.{name}"
        theirs = tensors[f"{stem}.lora_B.weight"] @ tensors[f"{stem}.lora_A.weight"]
        torch.testing.assert_close(ours.delta(name), theirs, atol=1e-5, rtol=0)
    assert 0 < facts["error"] < 1


def test_dora_and_lora_are_combined_once_dora_is_converted(model: Path, tmp_path: Path) -> None:
    lora = write_adapter(model, tmp_path / "lora", seed=1)
    Provenance(TrainingGrid("none"), (), "").write(lora)
    config = peft.LoraConfig(r=4, use_dora=True, target_modules="all-linear")
    dora = write_other(model, tmp_path / "dora", config)
    how = Combination("svd", (1.0, 1.0), rank=64)
    with pytest.raises(InputError, match=r"is DoRA; converting it to LoRA needs .* --model"):
        combine_folders([lora, dora], how, tmp_path / "new")
    facts = combine_folders([lora, dora], how, tmp_path / "new", model=model)
    assert facts["of"][0]["lost_in_conversion"] is None
    assert facts["of"][1]["lost_in_conversion"] < 1e-5
    merged = peft.PeftModel.from_pretrained(load(model), str(dora)).merge_and_unload()
    base, first = SafetensorsSource.from_folder(model), result(lora)
    ours = result(tmp_path / "new")
    for name in ours.factors:
        wanted = merged.get_submodule(name).weight - base.load(f"{name}.weight") + first.delta(name)
        torch.testing.assert_close(ours.delta(name), wanted.detach(), atol=1e-5, rtol=0)


def test_compressing_keeps_the_best_part_and_says_what_is_lost(model: Path, tmp_path: Path) -> None:
    adapter = write_adapter(model, tmp_path / "adapter", r=8)
    facts = compress_folder(adapter, 3, tmp_path / "new")
    before, after = result(adapter), result(tmp_path / "new")
    missed = total = 0.0
    for name in before.factors:
        delta = before.delta(name)
        singular = torch.linalg.svdvals(delta)
        error = float(torch.linalg.norm(after.delta(name) - delta))
        assert error == pytest.approx(float(torch.linalg.norm(singular[3:])), rel=1e-3)
        assert facts["errors"][name] == pytest.approx(error / float(delta.norm()), rel=1e-3)
        missed, total = missed + error**2, total + float(delta.norm()) ** 2
    assert facts["error"] == pytest.approx((missed / total) ** 0.5, rel=1e-3)
    assert (facts["rank_before"], facts["rank"]) == (8, 3)
    assert facts["bytes"] < facts["bytes_before"] / 2


def test_extracting_gives_back_the_adapter_that_was_merged(model: Path, tmp_path: Path) -> None:
    adapter = write_adapter(model, tmp_path / "adapter", r=4)
    tuned = peft.PeftModel.from_pretrained(load(model), str(adapter)).merge_and_unload()
    tuned.model.norm.weight.data += 0.01
    tuned.save_pretrained(str(tmp_path / "tuned"))
    facts = extract_folder(model, tmp_path / "tuned", 4, tmp_path / "new")
    wanted, ours = result(adapter), result(tmp_path / "new")
    for name in wanted.factors:
        torch.testing.assert_close(ours.delta(name), wanted.delta(name), atol=1e-5, rtol=0)
    assert facts["error"] < 1e-3
    assert facts["left_out"] == ["model.norm.weight"]
    assert 0 < facts["left_out_share"] < 0.1


def two(model: Path, root: Path) -> list[Path]:
    return [write_adapter(model, root / str(i), seed=i) for i in (1, 2)]


@pytest.mark.parametrize(
    ("how", "match"),
    [
        (
            Combination("tie", (1, 1)),
            r"combine.method: tie: no such combination; did you mean ties\?",
        ),
        (Combination("svd", (1,)), "adapter.weight: 1 weights for 2 adapters"),
        (
            Combination("svd", (0, 0)),
            "adapter.weight: must be finite numbers, and not all of them 0",
        ),
        (Combination("svd", (float("nan"), 1)), "adapter.weight: must be finite"),
        (Combination("ties", (1, 1)), "combine.density: ties needs the share of values that stay"),
        (Combination("ties", (1, 1), density=0.0), "combine.density: ties needs"),
        (Combination("svd", (1, 1), density=0.5), "combine.density: svd drops nothing"),
        (Combination("cat", (1, 1), rank=4), "combine.rank: cat has no rank to choose"),
        (Combination("svd", (1, 1), rank=0), "combine.rank: 0 must be a whole number"),
    ],
)
def test_combinations_that_make_no_sense(
    model: Path, tmp_path: Path, how: Combination, match: str
) -> None:
    with pytest.raises(InputError, match=match):
        combine_folders(two(model, tmp_path), how, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def of_other_shape(tiny_model: ModelMaker, folders: list[Path]) -> None:
    import shutil

    shutil.rmtree(folders[1])
    write_adapter(tiny_model("qwen3"), folders[1])


def of_other_base(tiny_model: ModelMaker, folders: list[Path]) -> None:
    for number, folder in enumerate(folders):
        base = {"name": f"model-{number}", "fingerprint": str(number)}
        Provenance(TrainingGrid("nf4"), None, "", "qlora", base).write(folder)


def of_other_grid(tiny_model: ModelMaker, folders: list[Path]) -> None:
    Provenance(TrainingGrid("none"), None, "").write(folders[1])


def whole_modules(tiny_model: ModelMaker, folders: list[Path]) -> None:
    import shutil

    shutil.rmtree(folders[1])
    write_adapter(tiny_model("llama"), folders[1], modules_to_save=["norm"])


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (of_other_shape, "they are of different models"),
        (of_other_base, r"was trained on another base .* --allow-base-mismatch"),
        (of_other_grid, "was trained on none, .* on assumed nf4"),
        (whole_modules, "converting it to LoRA needs the base model"),
    ],
)
def test_adapters_that_do_not_go_together(
    tiny_model: ModelMaker,
    model: Path,
    tmp_path: Path,
    spoil: Callable[[ModelMaker, list[Path]], None],
    match: str,
) -> None:
    folders = two(model, tmp_path)
    spoil(tiny_model, folders)
    with pytest.raises(InputError, match=match):
        combine_folders(folders, Combination("svd", (1.0, 1.0)), tmp_path / "new")


def test_nothing_is_overwritten_and_nothing_is_compressed_upwards(
    model: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(model, tmp_path / "adapter", r=4)
    with pytest.raises(InputError, match="exists already"):
        compress_folder(adapter, 2, adapter)
    with pytest.raises(InputError, match="4 is not below 4"):
        compress_folder(adapter, 4, tmp_path / "new")
    with pytest.raises(InputError, match="no linear layer differs"):
        extract_folder(model, model, 4, tmp_path / "new")


def test_an_adapter_trained_inside_a_larger_model_is_added_and_not_put_beside(
    model: Path, tmp_path: Path
) -> None:
    first, second = (write_adapter(model, tmp_path / str(i), seed=i) for i in (1, 2))
    plain = combine_folders([first, second], Combination("cat", (1.0, 1.0)), tmp_path / "plain")
    path = second / "adapter_model.safetensors"
    renamed = {
        name.replace("model.layers", "model.language_model.layers"): value
        for name, value in load_file(path).items()
    }
    save_file(renamed, path)
    facts = combine_folders([first, second], Combination("cat", (1.0, 1.0)), tmp_path / "new")
    assert facts["rank"] == plain["rank"]
    ours, wanted = result(tmp_path / "new"), result(tmp_path / "plain")
    assert set(ours.factors) == set(wanted.factors)
    for name in wanted.factors:
        assert torch.equal(ours.delta(name), wanted.delta(name))


def test_what_a_tuned_model_has_besides_is_named(model: Path, tmp_path: Path) -> None:
    tuned = Path(shutil.copytree(model, tmp_path / "tuned"))
    tensors = load_file(tuned / "model.safetensors")
    tensors["model.layers.0.self_attn.q_norm.weight"] = torch.ones(16)
    save_file(tensors, tuned / "model.safetensors")
    with pytest.raises(InputError, match=r"holds \S+q_norm\.weight, which .* \(1 such tensors\)"):
        extract_folder(model, tuned, 4, tmp_path / "new")


def test_an_adapter_with_an_embedding_of_its_own_is_no_low_rank_change(
    model: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(model, tmp_path / "adapter", modules_to_save=["embed_tokens"])
    with pytest.raises(InputError, match="changes embedding or head, for which a base"):
        compress_folder(adapter, 2, tmp_path / "new")
