"""The reference stage: the unmerged adapter on the base it was trained on, measured the slow way as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes import functional
from peft import PeftModel
from transformers import AutoModelForCausalLM

from edgepeft.adapters.provenance import Provenance, TrainingGrid
from edgepeft.checkpoints import base as base_stage
from edgepeft.data.formats import read_rows
from edgepeft.data.prompt import Prompter
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.evaluation import reference as reference_stage
from edgepeft.evaluation.reference_record import Reference
from edgepeft.evaluation.torch_model import TorchModel
from tests.conftest import ModelMaker
from tests.stages import run_stage, write_adapter
from tests.tiny import write_tiny_data

DATA: dict[str, Any] = {
    "shape": "auto",
    "columns": {},
    "system": None,
    "template": "auto",
    "max_test_rows": 5,
}
SETTINGS = {"merge": {"base": "dequantized", "grid": "nf4"}, "data": DATA}


def prepare(model: Path, root: Path, **lora: Any) -> dict[str, Path]:
    base = run_stage(base_stage.run, root / "base", {}, {"model": model})
    adapter = write_adapter(model, root / "adapter", **lora)
    _, test = write_tiny_data(root, rows=32)
    generic = root / "generic.txt"
    generic.write_text("The quick brown fox jumps over the lazy dog. " * 8)
    return {"base": base, "adapter": adapter, "test": test, "generic": generic}


def measure(root: Path, inputs: dict[str, Path], settings: Any = SETTINGS) -> Path:
    return run_stage(reference_stage.run, root / "reference", settings, inputs)


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def unmerged(model: Path, adapter: Path, kind: str = "nf4") -> Any:
    """The reference as anybody would make it: every linear layer on the grid, PEFT on top."""
    loaded = load(model)
    for name, module in loaded.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head" and kind != "none":
            codes, state = functional.quantize_4bit(
                module.weight.data, blocksize=64, compress_statistics=True, quant_type=kind
            )
            module.weight.data = functional.dequantize_4bit(codes, state)
    return PeftModel.from_pretrained(loaded, str(adapter)).eval()


@torch.no_grad()  # type: ignore[untyped-decorator]  # torch is not followed
def mean_loss(model: Any, probes: list[Any]) -> float:
    total, count = 0.0, 0
    for probe in probes:
        logits = model(input_ids=torch.tensor([probe.ids])).logits[0]
        targets = torch.tensor(probe.ids[probe.start :])
        total += float(
            torch.nn.functional.cross_entropy(
                logits[probe.start - 1 : -1], targets, reduction="sum"
            )
        )
        count += len(targets)
    return total / count


@pytest.mark.parametrize("family", ["llama", "gemma2", "granite"])
def test_reference_is_the_unmerged_adapter_on_the_dequantized_base(
    tiny_model: ModelMaker, tmp_path: Path, family: str
) -> None:
    model = tiny_model(family)
    inputs = prepare(model, tmp_path)
    folder = measure(tmp_path, inputs)
    reference = Reference.open(folder, inputs["base"])
    wanted, bare = unmerged(model, inputs["adapter"]), load(model)
    for kind in ("task", "generic"):
        probes = reference.probes(kind)
        assert probes
        for index, probe in enumerate(probes):
            with torch.no_grad():
                logits = wanted(input_ids=torch.tensor([probe.ids])).logits[0]
            found = reference.logits(kind, index)
            torch.testing.assert_close(found, logits[probe.positions], atol=1e-4, rtol=0)
    facts = reference.record["reference"], reference.record["base"]
    for one, other in zip(facts, (wanted, bare), strict=True):
        loss = mean_loss(other, reference.probes("task"))
        assert one["task_loss"] == pytest.approx(loss, rel=1e-4)
    assert facts[0]["task_loss"] != pytest.approx(facts[1]["task_loss"], rel=1e-3)


def test_probes_and_questions_are_the_first_test_rows(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    inputs = prepare(tiny_model("llama"), tmp_path)
    folder = measure(tmp_path, inputs)
    reference = Reference.open(folder, inputs["base"])
    prompter = Prompter.from_folder(inputs["base"])
    rows = read_rows(inputs["test"])[:5]
    questions = reference.questions()
    assert len(rows) == len(questions) == len(reference.probes("task")) == 5
    for row, question, probe in zip(rows, questions, reference.probes("task"), strict=True):
        assert (question.prompt, question.completion) == prompter.split(row)
        assert question.text == row.completion
        assert question.where == row.where
        assert probe.ids == question.prompt + question.completion
        assert probe.start == len(question.prompt)
    text = inputs["generic"].read_text()
    windows = [probe.ids for probe in reference.probes("generic")]
    assert [i for window in windows for i in window] == prompter.text(text)
    assert all(probe.start == 1 for probe in reference.probes("generic"))
    result = json.loads((folder / "edgepeft.json").read_text())["result"]
    assert result["rows"] == 5
    assert result["task_tokens"] == sum(len(question.completion) for question in questions)


def test_rows_that_are_there_twice_are_measured_twice(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    inputs = prepare(tiny_model("llama"), tmp_path)
    lines = inputs["test"].read_text().splitlines(keepends=True)
    inputs["test"].write_text("".join([lines[0], lines[1], lines[0], lines[0]]))
    reference = Reference.open(measure(tmp_path, inputs), inputs["base"])
    probes = reference.probes("task")
    assert len(probes) == 4
    logits = [reference.logits("task", index) for index in range(4)]
    assert torch.equal(logits[0], logits[2])
    assert torch.equal(logits[0], logits[3])
    model = load(tiny_model("llama"))
    assert reference.record["base"]["task_loss"] == pytest.approx(
        mean_loss(model, probes), rel=1e-4
    )


def test_plain_text_rows_have_losses_and_no_exact_match(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    inputs = prepare(tiny_model("llama"), tmp_path)
    texts = ["Some plain text to be continued.", "And some more of it, on another line."]
    inputs["test"].write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    reference = Reference.open(measure(tmp_path, inputs), inputs["base"])
    assert reference.questions() == []
    assert [probe.start for probe in reference.probes("task")] == [1, 1]
    for facts in (reference.record["base"], reference.record["reference"]):
        assert facts["exact_match"] is None
        assert facts["task_loss"] > 0


@pytest.mark.parametrize(
    ("record", "grid", "kind"),
    [
        (None, "none", "none"),
        (None, "fp4", "fp4"),
        (Provenance(TrainingGrid("none"), (), "edgepeft"), "nf4", "none"),
    ],
)
def test_grid_is_the_one_the_adapter_was_trained_on(
    tiny_model: ModelMaker, tmp_path: Path, record: Provenance | None, grid: str, kind: str
) -> None:
    model = tiny_model("llama")
    inputs = prepare(model, tmp_path)
    if record is not None:
        record.write(inputs["adapter"])
    settings = {**SETTINGS, "merge": {"base": "dequantized", "grid": grid}}
    reference = Reference.open(measure(tmp_path, inputs, settings), inputs["base"])
    probe = reference.probes("task")[0]
    with torch.no_grad():
        wanted = unmerged(model, inputs["adapter"], kind)(torch.tensor([probe.ids])).logits[0]
        other = unmerged(model, inputs["adapter"], "nf4")(torch.tensor([probe.ids])).logits[0]
    found = reference.logits("task", 0)
    torch.testing.assert_close(found, wanted[probe.positions], atol=1e-4, rtol=0)
    assert (found - other[probe.positions]).abs().max() > 1e-2


def test_weights_quantized_in_training_that_the_model_lacks(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    inputs = prepare(tiny_model("llama"), tmp_path)
    Provenance(TrainingGrid("nf4"), ("model.other.weight",), "").write(inputs["adapter"])
    with pytest.raises(InputError, match=r"trained with model\.other\.weight quantized"):
        measure(tmp_path, inputs)


def test_rows_longer_than_the_context(tiny_model: ModelMaker, tmp_path: Path) -> None:
    inputs = prepare(tiny_model("llama"), tmp_path)
    inputs["test"].write_text(json.dumps({"prompt": "word " * 900, "completion": "x"}) + "\n")
    with pytest.raises(InputError, match="no test row fits the context of 512 tokens"):
        measure(tmp_path, inputs)


def test_a_model_that_computes_nonsense_is_not_measured(
    tiny_model: ModelMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = prepare(tiny_model("llama"), tmp_path)
    nonsense = torch.full((3, 512), torch.nan)
    monkeypatch.setattr(TorchModel, "logits", lambda self, hidden: nonsense)
    monkeypatch.setattr(TorchModel, "check_head", lambda self, ids: None)
    with pytest.raises(EdgepeftError, match="logits are not finite; base or adapter is damaged"):
        measure(tmp_path, inputs)
