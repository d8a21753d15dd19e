"""What a method trained is what its bundle answers, held against PEFT's own unmerged model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgepeft.adapters.keys import canonical
from edgepeft.adapters.methods import all_methods
from edgepeft.checkpoints.base import open_base
from edgepeft.data.prompt import Prompter
from edgepeft.evaluation.reference_record import Reference
from edgepeft.evaluation.verify import probe_logits
from edgepeft.merging.stage import merged_source
from edgepeft.models.safetensors_header import read_header
from edgepeft.runtime import Bundle, GraphSession
from tests.methods.chain import CASES, NEW, USED
from tests.stages import make_job

Carried = Callable[[str], Path]


@pytest.mark.parametrize("case", CASES)
def test_bundle_is_the_unmerged_reference(carried: Carried, case: str) -> None:
    folder = carried(case)
    for target in CASES[case].targets:
        measures = json.loads((folder / f"verify-{target}" / "measures.json").read_text())
        assert measures["task_kl"] <= 1e-6, target
        assert measures["generic_kl"] <= 1e-6, target
        reference = Reference.open(folder / "reference", folder / "base")
        (path,) = (folder / target / "onnx").glob("*.onnx")
        session = GraphSession(path, threads=1)
        lead = list(Bundle.open(folder / target).virtual_ids)
        for kind in ("task", "generic"):
            for index, probe in enumerate(reference.probes(kind)):
                wanted = reference.logits(kind, index)
                parts = [part for _, part in probe_logits(session, probe, lead, wanted.shape[1])]
                logits = torch.cat(parts)
                assert (logits - wanted).abs().max() <= 1e-3


@pytest.mark.parametrize("case", CASES)
def test_names_that_peft_writes_are_left_alone(carried: Carried, case: str) -> None:
    path = carried(case) / "train" / "adapter" / "adapter_model.safetensors"
    if path.is_file():
        found = canonical(read_header(path), path)
        assert all(name == own for name, own in found.names.items())
        assert not found.notes


@pytest.mark.parametrize("case", CASES)
def test_reference_is_the_model_that_was_trained(carried: Carried, case: str) -> None:
    """The trainer's last evaluation and the reference's loss are of the same tokens, by different code."""
    folder = carried(case)
    history = json.loads((folder / "train" / "history.json").read_text())
    measures = json.loads((folder / "verify-cpu-fp32" / "measures.json").read_text())
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert measures["reference_task_loss"] != pytest.approx(measures["base_task_loss"], abs=1e-4)
    if CASES[case].objective != "supervised":
        # Their rows are not those of the test file, so the trainer evaluates nothing.
        assert losses == []
        return
    # LLM.int8() rounds activations as well while it trains, and the reference does not.
    close = 0.02 if CASES[case].grid == "int8" else 1e-5
    assert measures["reference_task_loss"] == pytest.approx(losses[-1], abs=close)


def test_training_lowers_the_loss_of_the_main_methods(carried: Carried) -> None:
    for case in ("qlora", "lora", "dora-nf4", "pissa-nf4", "loha", "lokr", "adalora", "full"):
        measures = json.loads((carried(case) / "verify-cpu-fp32" / "measures.json").read_text())
        assert measures["reference_task_loss"] < measures["base_task_loss"] - 0.5


def test_every_method_is_in_the_matrix() -> None:
    assert {case.name for case in CASES.values()} == set(all_methods())


def test_folded_starts_are_plain_lora_of_twice_the_rank(carried: Carried) -> None:
    config = json.loads((carried("pissa") / "train/adapter/adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["init_lora_weights"]) == (8, 64.0, True)
    assert not (carried("pissa") / "train/adapter/edgepeft_initial.safetensors").exists()
    on_grid = carried("pissa-nf4") / "train/adapter"
    assert json.loads((on_grid / "adapter_config.json").read_text())["r"] == 4
    assert (on_grid / "edgepeft_initial.safetensors").is_file()


def test_tokens_that_train_are_the_only_rows_that_change(carried: Carried) -> None:
    folder = carried("tokens-tied")
    inputs = {"base": folder / "base", "train": folder / "train"}
    merge = {"merge": {"base": "dequantized", "grid": "auto"}}
    source = merged_source(make_job(folder / "look", merge, inputs))
    base = open_base(folder / "base")
    name = "model.embed_tokens.weight"
    changed = (source.load(name) != base.load(name)).any(dim=1).nonzero()[:, 0].tolist()
    assert changed == [2, 70, 71]
    others = [n for n in source.specs if n != name]
    assert all(torch.equal(source.load(n), base.load(n)) for n in others)


@pytest.mark.parametrize("case", ["new-tokens-tied", "new-tokens-untied"])
def test_new_tokens_are_learned_by_rows_of_their_own(carried: Carried, case: str) -> None:
    folder = carried(case)
    prompter = Prompter.from_folder(folder / "base")
    new = [prompter.text(token)[-1] for token in NEW]
    rows = json.loads((folder / "base" / "config.json").read_text())["vocab_size"]
    base = open_base(folder / "base")
    embedding = base.load("model.embed_tokens.weight")
    assert 512 <= max(new) < len(embedding) == rows == 520
    inputs = {"base": folder / "base", "train": folder / "train"}
    merge = {"merge": {"base": "dequantized", "grid": "auto"}}
    merged = merged_source(make_job(folder / "look", merge, inputs))
    changed = (merged.load("model.embed_tokens.weight") != embedding).any(dim=1).nonzero()[:, 0]
    assert set(new[: len(USED)]) <= set(changed.tolist()) <= set(new)
    assert prompter.decode(new) == "".join(NEW)
