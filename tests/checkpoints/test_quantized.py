"""Bases in the formats that other tools round to: what they are, what ships, and what is said of bad ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from edgepeft.checkpoints import base as base_stage
from edgepeft.checkpoints.base import open_base
from edgepeft.checkpoints.base_stage import base_facts
from edgepeft.errors import InputError
from edgepeft.evaluation.witness.published import float_weights
from edgepeft.merging.stage import merged_source
from edgepeft.models import inspect_model
from edgepeft.models.checks import check_headers
from edgepeft.models.quantized import awq, gptq
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.decoder_session import GraphSession
from edgepeft_exporters.decoder import EXPORTER
from tests.checkpoints.conftest import Publisher
from tests.command import build_json
from tests.published import CASES, LEFT_OUT, change
from tests.stages import make_job, run_stage
from tests.tiny import write_tiny_data, write_tiny_model

Tensors = dict[str, torch.Tensor]
MODULE = "model.layers.0.self_attn.q_proj"
MERGE = {"merge": {"base": "dequantized", "grid": "none"}}


@pytest.fixture(scope="module")
def adapter(published: Publisher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter on all linear layers."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    config = LoraConfig(
        r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    base = in_float32(published("gptq").with_name("float"))
    get_peft_model(base, config).save_pretrained(folder)
    record = json.loads((folder / "adapter_config.json").read_text())
    record["base_model_name_or_path"] = "a/base"
    (folder / "adapter_config.json").write_text(json.dumps(record))
    return folder


def in_float32(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def meant(folder: Path) -> Tensors:
    """What a published checkpoint's weights are, by whoever wrote it."""
    return {
        name: tensor.float()
        for name, tensor in load_file(folder.with_name("float") / "model.safetensors").items()
    }


def staged(folder: Path, out: Path) -> Path:
    return run_stage(base_stage.run, out, {}, {"model": folder})


@pytest.mark.parametrize("case", CASES)
def test_a_base_is_codes_times_scales_bit_for_bit(
    published: Publisher, tmp_path: Path, case: str
) -> None:
    folder = published(case)
    info, wanted = inspect_model(folder), meant(folder)
    check_headers(info)
    assert EXPORTER.refuses(info) is None
    assert info.on_own_grid
    assert info.parameters >= sum(tensor.numel() for tensor in wanted.values())
    base = staged(folder, tmp_path / "base")
    facts, found = base_facts(base), open_base(base)
    assert facts.quantization == CASES[case][0]["quant_method"]
    assert facts.grid is None
    assert f"{MODULE}.weight" in facts.on_grid
    assert f"{LEFT_OUT}.weight" not in facts.on_grid
    assert "quantization_config" not in json.loads((base / "config.json").read_text())
    assert set(found.specs) == set(wanted)
    of_witness = float_weights(folder)
    for name, tensor in wanted.items():
        assert torch.equal(found.load(name).float(), tensor), name
        assert torch.equal(of_witness[name], tensor), name


def test_modules_may_be_rounded_in_several_ways(published: Publisher, tmp_path: Path) -> None:
    said, other = CASES["packed-asymmetric"][0], CASES["packed-8-bits"][0]
    folder, second = published("packed-asymmetric"), published("packed-8-bits")
    tensors = load_file(folder / "model.safetensors")
    mixed = {name: one for name, one in tensors.items() if not name.startswith(MODULE)}
    found = load_file(second / "model.safetensors").items()
    mixed |= {name: one for name, one in found if name.startswith(MODULE)}
    groups = {"a": said["config_groups"]["group_0"], "b": other["config_groups"]["group_0"]}
    both = change(folder, tmp_path / "both", config_groups=groups)
    save_file(mixed, both / "model.safetensors", metadata={"format": "pt"})
    source = open_base(staged(both, tmp_path / "base"))
    wanted = {**meant(folder), f"{MODULE}.weight": meant(second)[f"{MODULE}.weight"]}
    of_witness = float_weights(both)
    for name, tensor in wanted.items():
        assert torch.equal(source.load(name).float(), tensor), name
        assert torch.equal(of_witness[name], tensor), name


@pytest.mark.parametrize(
    "case",
    [
        name
        for name in CASES
        # transformers takes blocks that a weight cuts off for smaller ones; zeros are packed today.
        if name.startswith(("fp8", "packed", "comp"))
        and name not in ("fp8-cut-blocks", "packed-bare-zeros")
    ],
)
@pytest.mark.filterwarnings("ignore:You passed `quantization_config`")
def test_the_libraries_of_the_formats_read_the_same(published: Publisher, case: str) -> None:
    from transformers import CompressedTensorsConfig, FineGrainedFP8Config

    how = FineGrainedFP8Config(dequantize=True)
    if not case.startswith("fp8"):
        pytest.importorskip("compressed_tensors")
        how = CompressedTensorsConfig(dequantize=True)
    folder = published(case)
    model = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=how, dtype=torch.float32
    )
    theirs = model.state_dict()
    for name, tensor in meant(folder).items():
        assert torch.equal(theirs[name].float(), tensor), name


@pytest.mark.parametrize("case", ["awq", "fp8-cut-blocks", "packed-asymmetric", "compressed-fp8"])
def test_a_merge_is_that_of_the_same_weights_published_in_float(
    published: Publisher, adapter: Path, tmp_path: Path, case: str
) -> None:
    merged = []
    for name in ("rounded", "float"):
        base = staged(published(case).with_name(name), tmp_path / name)
        job = make_job(tmp_path / f"job-{name}", MERGE, {"base": base, "adapter": adapter})
        merged.append(merged_source(job))
    ours, theirs = merged
    for name in ours.specs:
        assert torch.equal(ours.load(name).float(), theirs.load(name).float()), name
    whole = in_float32(published(case).with_name("float"))
    module = PeftModel.from_pretrained(whole, adapter).get_base_model().get_submodule(MODULE)
    with torch.no_grad():
        wanted = module(torch.eye(64)).T
    torch.testing.assert_close(ours.load(f"{MODULE}.weight"), wanted, rtol=1e-4, atol=1e-5)


def test_a_build_ships_the_published_base_with_the_adapter(
    published: Publisher, adapter: Path, tmp_path: Path
) -> None:
    folder = published("gptq-act-order")
    write_tiny_data(tmp_path)
    recipe = {
        "model": str(folder),
        "adapter": str(adapter),
        "data": {"train": "train.jsonl", "test": "test.jsonl"},
        "targets": ["cpu-fp32", "cpu-int4"],
        "quantize": {"algorithm": "rtn"},
        "gates": {"max_exact_match_drop": 1, "max_task_kl": None, "max_generic_kl": None},
    }
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    built = build_json(tmp_path / "r.yaml", "--out", tmp_path / "out")
    adapted = PeftModel.from_pretrained(in_float32(folder.with_name("float")), adapter).eval()
    for length in (10, 300):
        ids = torch.randint(5, 500, (1, length), generator=torch.Generator().manual_seed(length))
        with torch.no_grad():
            wanted = adapted(input_ids=ids).logits[0].numpy()
        bundles = {bundle["target"]: Path(bundle["path"]) for bundle in built["bundles"]}
        session = GraphSession(Bundle.open(bundles["cpu-fp32"], check="sizes"))
        assert np.abs(session.logits(ids[0].tolist()) - wanted).max() < 1e-4
    assert [bundle["gates"] for bundle in built["bundles"]] == ["passed", "passed"]


@pytest.mark.parametrize(
    ("case", "module", "name", "fault"),
    [
        ("gptq", gptq, "_OFFSETS", {"gptq": 0, "gptq_v2": 1}),
        ("awq", awq, "_PLACES", tuple(range(8))),
    ],
)
def test_a_fault_in_a_reader_is_seen_by_the_witness(
    published: Publisher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
    module: Any,
    name: str,
    fault: Any,
) -> None:
    folder = published(case)
    ids = torch.randint(5, 500, (1, 40), generator=torch.Generator().manual_seed(0))

    def logits(weights: Tensors) -> torch.Tensor:
        model = in_float32(folder.with_name("float"))
        model.load_state_dict(weights, strict=False)
        with torch.no_grad():
            found: torch.Tensor = model(input_ids=ids).logits
        return found

    wanted = logits(float_weights(folder))
    for number, bound in enumerate((0.0, 1e-2)):
        source = open_base(staged(folder, tmp_path / str(number)))
        found = logits({name: source.load(name) for name in source.specs})
        assert (found - wanted).abs().max() >= bound
        assert bound or torch.equal(found, wanted)
        monkeypatch.setattr(module, name, fault)


def test_bitsandbytes_8_bits_are_a_base(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny", "llama")
    rounding = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["lm_head", LEFT_OUT])
    eight = AutoModelForCausalLM.from_pretrained(
        tmp_path / "tiny", quantization_config=rounding, dtype=torch.float32
    )
    eight.save_pretrained(tmp_path / "eight")
    for file in (tmp_path / "tiny").glob("*token*"):
        (tmp_path / "eight" / file.name).write_bytes(file.read_bytes())
    assert inspect_model(tmp_path / "eight").quantization == "bitsandbytes"
    source = open_base(staged(tmp_path / "eight", tmp_path / "base"))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "eight", dtype=torch.float32)
    wanted = theirs.dequantize(dtype=torch.float32).state_dict()
    for name in source.specs:
        torch.testing.assert_close(
            source.load(name).float(), wanted[name].float(), rtol=1e-6, atol=1e-8
        )
    tensors = load_file(tmp_path / "eight" / "model.safetensors")
    tensors[f"{MODULE}.weight_format"].fill_(1)
    save_file(tensors, tmp_path / "eight" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"q_proj\.weight_format is not 0, so the codes don't lie"):
        inspect_model(tmp_path / "eight")


@pytest.mark.parametrize("case", ["gptq", "packed"])
def test_the_witness_reads_shards_by_their_index_and_the_old_name_of_the_key(
    published: Publisher, tmp_path: Path, case: str
) -> None:
    folder = published(case)
    wanted = float_weights(folder)
    copy = change(folder, tmp_path / "shards")
    config = json.loads((copy / "config.json").read_text())
    config["compression_config"] = config.pop("quantization_config")
    (copy / "config.json").write_text(json.dumps(config))
    tensors = load_file(copy / "model.safetensors")
    halves = {
        "first.safetensors": sorted(tensors)[::2],
        "second.safetensors": sorted(tensors)[1::2],
    }
    for file, names in halves.items():
        save_file({name: tensors[name] for name in names}, copy / file, metadata={"format": "pt"})
    (copy / "model.safetensors").unlink()
    weight_map = {name: file for file, names in halves.items() for name in names}
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert inspect_model(copy).quantization == inspect_model(folder).quantization
    found = float_weights(copy)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
