"""What a combination keeps of each task, by adapters that have learned something and PEFT's own generation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edgepeft.adapters.attach import open_adapter
from edgepeft.adapters.provenance import Provenance, TrainingGrid
from edgepeft.combination import fitting
from edgepeft.combination.evaluate import Measuring, combine_measured, names_of
from edgepeft.combination.fitting import Fitter
from edgepeft.combination.folders import combine_folders
from edgepeft.combination.methods import Combination
from edgepeft.combination.scoring import Score, Scorer, read_tests
from edgepeft.combination.search import METHODS, search
from edgepeft.data.formats import read_rows
from edgepeft.data.prompt import Prompter
from edgepeft.errors import InputError
from edgepeft.events import Events
from edgepeft.merging.lora import lora_factors
from tests.tiny import write_tiny_model

TASKS = {"here": ("Is the {} here?", "yes"), "where": ("Where did the {} go?", "home")}
WORDS = [
    *(
        "fox",
        "dog",
        "sun",
        "hill",
        "sky",
        "grass",
        "snow",
        "coal",
        "lemon",
        "orange",
        "plum",
        "light",
    ),
    *("kitchen", "heater", "bedroom", "device", "adapter", "source", "tensor", "answer", "model"),
    *("street", "café", "measure"),
]


def teach(model: Path, rows: Path, folder: Path) -> None:
    """A LoRA of full precision that has learned a file's rows, by a plain loop over PEFT's own model."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    prompter = Prompter.from_folder(model)
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    wrapped = get_peft_model(base, config)
    learned = [p for p in wrapped.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=5e-3)
    encoded = [prompter.row(row) for row in read_rows(rows)]
    for step in range(72):
        row = encoded[step % len(encoded)]
        ids, mask = torch.tensor(row.ids), torch.tensor(row.mask, dtype=torch.bool)
        logits = wrapped(ids[None]).logits[0]
        loss = torch.nn.functional.cross_entropy(logits[:-1][mask[1:]], ids[1:][mask[1:]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    wrapped.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    Provenance(TrainingGrid("none"), (), "").write(folder)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, two adapters of it and each one's test rows."""
    root = tmp_path_factory.mktemp("taught")
    model = write_tiny_model(root / "model", "llama")
    for name, (question, answer) in TASKS.items():
        file = root / f"{name}.jsonl"
        rows = [{"prompt": question.format(word), "completion": answer} for word in WORDS]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        teach(model, file, root / name)
    return root


def combined(root: Path, out: Path, how: Combination, **measuring: Any) -> dict[str, Any]:
    tests = {name: root / f"{name}.jsonl" for name in TASKS}
    return combine_measured(
        [root / name for name in TASKS],
        how,
        out,
        root / "model",
        Measuring(tests, **measuring),
        events=Events("combine"),
    )


def generated(model: Path, adapter: Path, rows: Path, first: int) -> float:
    """Exact match on a file's rows from ``first`` on, by PEFT's own model and transformers' own generation."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    prompter = Prompter.from_folder(model)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    wrapped = PeftModel.from_pretrained(base, str(adapter)).eval()
    right = 0
    chosen = read_rows(rows)[first:]
    for row in chosen:
        prompt, completion = prompter.split(row)
        ids = wrapped.generate(
            input_ids=torch.tensor([prompt]),
            max_new_tokens=len(completion) + 8,
            do_sample=False,
            eos_token_id=sorted(prompter.stop_ids),
        )[0, len(prompt) :].tolist()
        right += prompter.decode(ids).strip() == row.completion
    return right / len(chosen)


def test_scores_are_those_of_generation(taught: Path, tmp_path: Path) -> None:
    facts = combined(taught, tmp_path / "new", Combination("cat", (0.7, 0.6)), rows=100)
    for name in TASKS:
        task = facts["tasks"][name]
        rows = taught / f"{name}.jsonl"
        assert task["alone"]["rows"] == len(WORDS)
        assert task["alone"]["exact_match"] > 0.9, "an adapter that learned nothing proves nothing"
        for folder, key in ((taught / name, "alone"), (tmp_path / "new", "combined")):
            wanted = generated(taught / "model", folder, rows, 0)
            assert task[key]["exact_match"] == pytest.approx(wanted)
        assert task["kept"] == pytest.approx(
            task["combined"]["exact_match"] / task["alone"]["exact_match"]
        )
    assert "search" not in facts


def test_a_search_keeps_more_and_reports_on_other_rows(taught: Path, tmp_path: Path) -> None:
    start = Combination("cat", (3.0, 0.1))
    facts = combined(taught, tmp_path / "new", start, rows=100, trials=9, searched=8)
    assert facts["search"]["rows"] == dict.fromkeys(TASKS, 8)
    trials = facts["search"]["trials"]
    assert len(trials) == 9
    assert [trial["method"] for trial in trials if trial["weights"] == (3.0, 0.1)] != []
    assert {trial["method"] for trial in trials} == set(METHODS)
    best = trials[0]
    first = next(t for t in trials if (t["method"], t["weights"]) == ("cat", (3.0, 0.1)))
    assert min(best["kept"].values()) >= min(first["kept"].values())
    assert (facts["method"], facts["weights"]) == (best["method"], list(best["weights"]))
    for name in TASKS:
        task = facts["tasks"][name]
        assert task["combined"]["rows"] == len(WORDS) - 8
        wanted = generated(taught / "model", tmp_path / "new", taught / f"{name}.jsonl", 8)
        assert task["combined"]["exact_match"] == pytest.approx(wanted)


def test_what_is_fitted_to_rows_keeps_more_than_the_sum(taught: Path, tmp_path: Path) -> None:
    found = {
        method: combined(
            taught, tmp_path / method, Combination(method, (1.0, 1.0)), rows=100, searched=10
        )
        for method in ("cat", "regmean")
    }
    least = {
        method: min(task["combined"]["exact_match"] for task in facts["tasks"].values())
        for method, facts in found.items()
    }
    losses = {
        method: max(task["combined"]["loss"] for task in facts["tasks"].values())
        for method, facts in found.items()
    }
    assert losses["regmean"] < losses["cat"]
    assert least["regmean"] >= least["cat"]
    assert found["regmean"]["rank"] == 8
    for name in TASKS:
        wanted = generated(taught / "model", tmp_path / "regmean", taught / f"{name}.jsonl", 10)
        assert found["regmean"]["tasks"][name]["combined"]["exact_match"] == pytest.approx(wanted)


def test_what_has_no_room_at_once_is_fitted_in_parts(
    taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = [open_adapter(taught / name) for name in TASKS]
    scorer = Scorer(taught / "model", adapters, allow_mismatch=False)
    questions = [
        scorer.read(name, taught / f"{name}.jsonl", rows=3, searched=0).reported for name in TASKS
    ]
    factors = [lora_factors(adapter) for adapter in adapters]
    whole = Fitter(scorer, factors, questions)
    monkeypatch.setattr(fitting, "MOMENT_BYTES", 1 << 15)
    parts = Fitter(scorer, factors, questions)
    assert 1 == whole.passes < parts.passes
    read = []
    wanted, found = whole.fit([1.0, 0.5]), parts.fit([1.0, 0.5], lambda: read.append(1))
    once = parts.passes * sum(map(len, questions))
    assert len(read) == once
    # The weights' ratio is all that counts.
    assert parts.fit([2.0, 1.0], lambda: read.append(1)) is found
    assert len(read) == once
    whole.fit([1.0, 2.0], lambda: read.append(1))
    assert len(read) == once
    assert set(found.factors) == set(wanted.factors)
    for name in wanted.factors:
        torch.testing.assert_close(found.delta(name), wanted.delta(name))


def test_moments_are_those_of_what_the_modules_read(taught: Path) -> None:
    """Against hooks of the test's own on PEFT's model around the same base."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = open_adapter(taught / "here")
    scorer = Scorer(taught / "model", [adapter], allow_mismatch=False)
    factors = lora_factors(adapter)
    questions = scorer.read("here", taught / "here.jsonl", rows=3, searched=0).reported
    scorer.wear(factors)
    found = scorer.moments(questions, sorted(factors.factors))
    base = AutoModelForCausalLM.from_pretrained(taught / "model", dtype=torch.float32)
    wrapped = PeftModel.from_pretrained(base, str(taught / "here")).eval()
    for name in factors.factors:
        read: list[torch.Tensor] = []
        module = wrapped.get_submodule(f"base_model.model.{name}")
        hook = module.register_forward_pre_hook(
            lambda _, inputs, read=read: read.append(inputs[0][0])
        )
        with torch.no_grad():
            for question in questions:
                wrapped(torch.tensor([question.prompt + question.completion]))
        hook.remove()
        inputs = torch.cat(read)
        torch.testing.assert_close(
            found[name], inputs.T @ inputs / len(inputs), rtol=1e-3, atol=1e-4
        )


def test_rows_to_fit_to_must_be_there(taught: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text((taught / "here.jsonl").read_text().partition("\n")[0] + "\n")
    with pytest.raises(InputError, match="--method regmean: here has too few test rows"):
        combine_measured(
            [taught / name for name in TASKS],
            Combination("regmean", (1.0, 1.0)),
            tmp_path / "out",
            taught / "model",
            Measuring({"here": few, "where": taught / "where.jsonl"}, rows=10, searched=10),
            events=Events("combine"),
        )
    with pytest.raises(InputError, match="fitted to rows of every task"):
        combine_folders(
            [taught / name for name in TASKS], Combination("regmean", (1.0, 1.0)), tmp_path / "new"
        )


def test_a_search_walks_to_better_weights() -> None:
    """On a made-up ground: the first task wants weight 0.7, the second 0.4."""

    def measure(how: Combination) -> dict[str, Score]:
        if how.method == "ties":
            raise InputError("combine: not these")
        miss = [abs(how.weights[0] - 0.7), abs(how.weights[1] - 0.4)]
        return {str(i): Score(100, round(100 * max(0, 1 - m)), m) for i, m in enumerate(miss)}

    before = {str(i): Score(100, 100, 0.0) for i in range(2)}
    found = search(Combination("svd", (1.0, 1.0)), ["ties", "cat"], before, measure, 40)
    assert found[0].how.method == "cat"
    assert found[0].how.weights == pytest.approx((0.7, 0.4))
    assert len(found) <= 40
    with pytest.raises(InputError, match="not these"):
        search(Combination("svd", (1.0, 1.0)), ["ties"], before, measure, 4)


def test_recipes_say_how_their_rows_are_read(taught: Path, tmp_path: Path) -> None:
    """A recipe's system message and columns count; without them the rows are others."""
    rows = [{"q": f"Is the {word} here?", "a": "yes"} for word in WORDS]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "recipe.yaml").write_text(
        "model: anything\ntargets: [cpu-int4]\n"
        "data: {test: test.jsonl, system: Be brief., columns: {prompt: q, completion: a}}\n"
    )
    scorer = Scorer(taught / "model", [open_adapter(taught / "here")], allow_mismatch=False)
    read = scorer.read("here", tmp_path / "recipe.yaml", rows=3, searched=4)
    assert [len(read.searched), len(read.reported)] == [4, 3]
    prompter = Prompter.from_folder(taught / "model")
    assert "Be brief." in prompter.decode(read.reported[0].prompt)
    with pytest.raises(InputError, match=r"test.jsonl"):
        scorer.read("here", tmp_path / "test.jsonl", rows=3, searched=0)


def test_tests_belong_to_adapters(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    given = f"one={tmp_path / 'a.jsonl'}"
    for texts, wanted in (
        (["three=a.jsonl"], "NAME is one of one, two"),
        (["a.jsonl"], "write it as NAME=FILE"),
        ([given], "--test: is missing for two"),
        ([given, given], "there is one for one already"),
    ):
        with pytest.raises(InputError, match=wanted):
            read_tests(texts, ["one", "two"])
    folders = [tmp_path / "x" / "adapter", tmp_path / "y" / "adapter"]
    assert names_of(folders) == ["1", "2"]
    assert names_of([tmp_path / "x", tmp_path / "y"]) == ["x", "y"]
