"""The graph with an adapter in its slots is the unmerged reference; without one it is the base."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from edgepeft.adapters.attach import attach, open_adapter
from edgepeft.adapters.provenance import TrainingGrid
from edgepeft.adapters.training_grid import through_grid
from edgepeft.checkpoints.skeleton import linear_weight_names
from edgepeft.hot_swap.store import add_adapter
from edgepeft.metrics.generation import Comparison
from edgepeft.runtime import Bundle, GraphSession, Runtime
from tests.hot_swap.chain import CASES
from tests.stages import Find

IDS = [5, 9, 40, 200, 17, 63, 128, 7]
EXACT = [
    (case, target, name)
    for case, target in (
        *((case, "cpu-fp32") for case in CASES),
        ("llama", "cpu-nf4"),
    )
    for name in (None, *CASES[case].adapters)
]


def reference_logits(model: Path, adapter: Path | None, kind: str) -> torch.Tensor:
    """Logits of the base on its training grid, with PEFT's unmerged adapter."""
    from transformers import AutoModelForCausalLM

    made = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    names = set(linear_weight_names(made))
    for name, parameter in made.named_parameters():
        if name in names:
            parameter.data = through_grid(parameter.data, TrainingGrid(kind))  # type: ignore[arg-type]
    if adapter is not None:
        made = attach(made, open_adapter(adapter))
    with torch.no_grad():
        logits: torch.Tensor = made(torch.tensor([IDS])).logits[0]
    return logits


@pytest.mark.parametrize(("case", "target", "name"), EXACT)
def test_adapters_answer_as_their_unmerged_references(
    built: Find, tmp_path: Path, case: str, target: str, name: str | None
) -> None:
    folder = shutil.copytree(built(case, target), tmp_path / "bundle")
    bundle = Bundle.open(folder)
    adapter = None
    if name is not None:
        added = add_adapter(bundle, name, built(case, "adapters") / name)
        assert added.facts["same_base"] is (CASES[case].grid["kind"] == "nf4")
        adapter = added.factors
    kind = str(CASES[case].grid["kind"])
    peft = None if name is None else built(case, "adapters") / name
    wanted = reference_logits(built(case, "model"), peft, kind)
    logits = torch.from_numpy(GraphSession(bundle, threads=1, adapter=adapter).logits(IDS))
    torch.testing.assert_close(logits, wanted, rtol=1e-3, atol=1e-3)
    compared = Comparison()
    compared.add(wanted, logits, wanted.argmax(-1))
    assert compared.kl <= 1e-6
    runtime = Runtime(bundle, threads=1)
    runtime.swap_adapter(name)
    ours = runtime.generate_ids(IDS, max_new_tokens=8)
    session = GraphSession(bundle, threads=1, adapter=adapter)
    assert ours == session.greedy(IDS, 8, runtime.prompter.stop_ids)


@pytest.mark.parametrize(("target", "bound"), [("cpu-int4", 0.2), ("cpu-int8", 0.001)])
def test_a_rounded_base_costs_what_rounding_costs(
    built: Find, tmp_path: Path, target: str, bound: float
) -> None:
    folder = shutil.copytree(built("llama", target), tmp_path / "bundle")
    bundle = Bundle.open(folder)
    added = add_adapter(bundle, "one", built("llama", "adapters") / "one")
    assert not added.facts["same_base"]
    assert "blocks of 32" in added.facts["served_on"]
    wanted = reference_logits(built("llama", "model"), built("llama", "adapters") / "one", "nf4")
    base = reference_logits(built("llama", "model"), None, "nf4")
    logits = torch.from_numpy(GraphSession(bundle, threads=1, adapter=added.factors).logits(IDS))
    near, far = Comparison(), Comparison()
    near.add(wanted, logits, wanted.argmax(-1))
    far.add(wanted, base, wanted.argmax(-1))
    assert near.kl < bound < far.kl


def test_plain_genai_loads_the_bundle_and_its_adapters(filled: Path) -> None:
    """Without edgepeft: onnxruntime-genai's own model and its own registry of adapters."""
    import onnxruntime_genai as og

    model = og.Model(str(filled))
    adapters = og.Adapters(model)
    runtime = Runtime(filled, threads=1)
    answers = set()
    for name in (None, *runtime.adapters):
        parameters = og.GeneratorParams(model)
        parameters.set_search_options(do_sample=False, max_length=len(IDS) + 12)
        generator = og.Generator(model, parameters)
        if name is not None:
            adapters.load(str(filled / "adapters" / name / "adapter.onnx_adapter"), name)
            generator.set_active_adapter(adapters, name)
        generator.append_tokens(np.array(IDS, np.int32))
        while not generator.is_done():
            generator.generate_next_token()
        theirs = generator.get_sequence(0)[len(IDS) :].tolist()
        ours = runtime.generate_ids(IDS, max_new_tokens=12, adapter=name or "base")
        assert theirs[: len(ours)] == ours
        answers.add(tuple(ours))
    assert len(answers) == 4, "adapters that answer alike prove nothing"


def test_ranks_beyond_the_first_are_in_use(built: Find, filled: Path) -> None:
    """Each adapter's inputs have its own rank, and a slot that it leaves alone is not in its file."""
    from onnxruntime import AdapterFormat

    shapes = {}
    for name in ("one", "few"):
        path = filled / "adapters" / name / "adapter.onnx_adapter"
        read = AdapterFormat.read_adapter(str(path)).get_parameters()
        shapes[name] = {key: value.shape() for key, value in read.items()}
    # Q, K and V are one product, so their factors lie side by side.
    assert shapes["one"]["model.layers.0.attn.qkv_proj.lora_A"] == [1, 64, 12]
    assert shapes["few"]["model.layers.0.attn.qkv_proj.lora_A"] == [1, 64, 2]
    assert "model.layers.0.mlp.gate_proj.lora_A" not in shapes["few"]
