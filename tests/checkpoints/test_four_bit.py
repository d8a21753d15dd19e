"""A base that bitsandbytes has rounded already: what is published is what ships, and damaged ones are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from edgepeft.adapters.training_grid import grid_codes
from edgepeft.checkpoints import base as base_stage
from edgepeft.checkpoints.base import open_base
from edgepeft.checkpoints.base_stage import base_facts
from edgepeft.errors import InputError
from edgepeft.merging.stage import job_provenance, merged_source
from edgepeft.models import inspect_model
from edgepeft.models.checks import check_headers
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.decoder_session import GraphSession
from edgepeft_exporters.decoder import EXPORTER
from tests.command import build_json
from tests.stages import make_job, run_stage
from tests.tiny import write_tiny_data, write_tiny_model

MERGE = {"merge": {"base": "dequantized", "grid": "auto"}}
LINEAR = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module", params=["nf4", "fp4"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 4-bit checkpoint as people publish it, nested scales and one layer left out, and an adapter on it."""
    root = tmp_path_factory.mktemp(request.param)
    write_tiny_model(root / "tiny", "llama")
    config = AutoModelForCausalLM.from_pretrained(root / "tiny").config
    config.intermediate_size = 192
    torch.manual_seed(0)
    whole = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in whole.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) * 0.12)
    whole.save_pretrained(root / "whole")
    tokenizer = AutoTokenizer.from_pretrained(root / "tiny")
    rounding = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=request.param,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=["lm_head", "model.layers.1.mlp.up_proj"],
    )
    four = AutoModelForCausalLM.from_pretrained(
        root / "whole", quantization_config=rounding, dtype=torch.bfloat16
    )
    four.save_pretrained(root / "four")
    tokenizer.save_pretrained(root / "four")
    adapter = LoraConfig(
        r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(in_float32(root / "four"), adapter).save_pretrained(root / "adapter")
    return root


def in_float32(folder: Path) -> Any:
    """The published model as transformers loads it, whose 4-bit layers multiply in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for parameter in model.parameters():
        # transformers leaves what is not rounded in the type that it was saved in.
        if parameter.is_floating_point():
            parameter.data = parameter.data.float()
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            state.dtype = torch.float32
            module.compute_dtype = torch.float32
            module.support_avx512bf16_for_cpu = False
    return model.eval()


def staged(root: Path, out: Path) -> Path:
    return run_stage(base_stage.run, out, {}, {"model": root / "four"})


def test_the_base_is_what_transformers_dequantizes(published: Path, tmp_path: Path) -> None:
    from bitsandbytes.functional import dequantize_4bit

    info = inspect_model(published / "four")
    check_headers(info)
    assert EXPORTER.refuses(info) is None
    assert info.parameters == inspect_model(published / "whole").parameters
    base = staged(published, tmp_path / "base")
    facts, source = base_facts(base), open_base(base)
    assert facts.grid == ("nf4" if "nf4" in published.name else "fp4")
    assert "model.layers.1.mlp.up_proj.weight" not in facts.on_grid
    assert "quantization_config" not in json.loads((base / "config.json").read_text())
    theirs = in_float32(published / "four")
    for name, parameter in theirs.named_parameters():
        state = getattr(parameter, "quant_state", None)
        assert (state is not None) == (name in facts.on_grid), name
        wanted = parameter.data if state is None else dequantize_4bit(parameter.data, state)
        assert torch.equal(source.load(name).float(), wanted.float()), name


def test_the_codes_of_a_lossless_target_are_the_published_ones(
    published: Path, tmp_path: Path
) -> None:
    base = staged(published, tmp_path / "base")
    inputs = {"base": base, "adapter": published / "adapter"}
    provenance = job_provenance(make_job(tmp_path / "job", MERGE, inputs))
    stored = load_file(published / "four" / "model.safetensors")
    assert set(provenance.quantized or ()) == set(base_facts(base).on_grid)
    for name in base_facts(base).on_grid:
        codes, _ = grid_codes(open_base(base).load(name), provenance.grid)
        found, published_codes = codes.flatten(), stored[name].flatten()
        if provenance.grid.kind == "fp4":
            # FP4 has a zero of either sign, which are one value.
            found, published_codes = map(_without_signed_zeros, (found, published_codes))
        assert torch.equal(found, published_codes), name


def _without_signed_zeros(codes: torch.Tensor) -> torch.Tensor:
    halves = torch.stack([codes >> 4, codes & 15])
    return torch.where(halves == 8, 0, halves)


def test_the_merge_is_pefts_onto_the_published_weights(published: Path, tmp_path: Path) -> None:
    inputs = {"base": staged(published, tmp_path / "base"), "adapter": published / "adapter"}
    merged = merged_source(make_job(tmp_path / "job", MERGE, inputs))
    adapted = PeftModel.from_pretrained(in_float32(published / "four"), published / "adapter")
    module = dict(adapted.get_base_model().named_modules())[LINEAR.removesuffix(".weight")]
    with torch.no_grad():
        wanted = module(torch.eye(64)).T
    torch.testing.assert_close(merged.load(LINEAR), wanted, rtol=1e-4, atol=1e-5)


def test_the_shipped_graph_answers_as_the_published_model_with_the_adapter(
    published: Path, tmp_path: Path
) -> None:
    write_tiny_data(tmp_path)
    recipe = {
        "model": str(published / "four"),
        "adapter": str(published / "adapter"),
        "data": {"train": "train.jsonl", "test": "test.jsonl"},
        "targets": ["cpu-fp32", "cpu-nf4"] if "nf4" in published.name else ["cpu-fp32"],
        "gates": {"max_exact_match_drop": 1},
    }
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    built = build_json(tmp_path / "r.yaml", "--out", tmp_path / "out")
    adapted = PeftModel.from_pretrained(in_float32(published / "four"), published / "adapter")
    for length in (10, 300):
        ids = torch.randint(5, 500, (1, length), generator=torch.Generator().manual_seed(length))
        with torch.no_grad():
            wanted = adapted(input_ids=ids).logits[0].numpy()
        for bundle in built["bundles"]:
            session = GraphSession(Bundle.open(Path(bundle["path"]), check="sizes"))
            found = session.logits(ids[0].tolist())
            assert np.abs(found - wanted).max() < 1e-4, bundle["path"]


def _without(part: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        del tensors[part]

    return change


def _state(**said: Any) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        (name,) = (key for key in tensors if key.startswith(f"{LINEAR}.quant_state"))
        state = {**json.loads(bytes(tensors[name].tolist())), **said}
        tensors[name] = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without(f"{LINEAR}.absmax"), "lacks .*q_proj.weight.absmax; the checkpoint is not whole"),
        (_without(f"{LINEAR}.nested_absmax"), "lacks .*nested_absmax; the checkpoint is not whole"),
        (_without(f"{LINEAR}.quant_map"), "lacks .*quant_map"),
        (_without(LINEAR), "and no codes of"),
        (_state(shape=[64, 128]), "calls for 4096"),
        (_state(blocksize=32), "absmax has 64 elements"),
        (_state(shape="much"), "can't be read"),
        (_state(blocksize=10**9), "can't be read"),
        (_state(quant_type="int3"), "can't be read"),
    ],
)
def test_damaged_codes_are_named(
    published: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None], words: str
) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((published / "four" / name).read_bytes())
    tensors = load_file(published / "four" / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=words):
        inspect_model(tmp_path)
