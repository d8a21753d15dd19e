"""Virtual tokens: before every prompt, once, in every runtime that reads the bundle, and never in an answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgepeft.checkpoints.base import open_base
from edgepeft.combination.folders import compress_folder
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Message
from edgepeft.errors import InputError
from edgepeft.merging.stage import merged_source, open_unmerged
from edgepeft.runtime import Bundle, GraphSession, Runtime
from edgepeft_exporters.decoder.lead import leading
from edgepeft_exporters.decoder.virtual import NEVER
from tests.methods.chain import CASES
from tests.runtimes import by_genai, by_onnxruntime, by_transformers_js, without_stop
from tests.stages import make_job

Carried = Callable[[str], Path]
LED = [
    name
    for name, case in CASES.items()
    if case.name in ("prompt_tuning", "p_tuning", "prefix_tuning")
]
QUESTION: list[Message] = [{"role": "user", "content": "What is the colour of snow?"}]
TALK: list[Message] = [
    *QUESTION,
    {"role": "assistant", "content": "w"},
    {"role": "user", "content": "And coal?"},
]
MERGE = {"merge": {"base": "dequantized", "grid": "auto"}}


@pytest.mark.parametrize("case", LED)
def test_they_stand_once_before_whatever_is_asked(carried: Carried, case: str) -> None:
    import onnxruntime_genai as og
    from transformers import AutoTokenizer

    folder = carried(case)
    bundle = Bundle.open(folder / "cpu-fp32")
    lead = list(bundle.virtual_ids)
    before, own = Prompter.from_folder(folder / "base"), Prompter.from_folder(bundle.path)
    theirs = AutoTokenizer.from_pretrained(bundle.path)
    native = og.Tokenizer(og.Model(str(bundle.path)))
    assert before.vocab_size <= lead[0]
    assert lead[-1] == bundle.vocab_size - 1
    raw = [*lead, *before.text("What is it?")]
    assert own.text("What is it?") == raw == theirs("What is it?")["input_ids"]
    for messages in (QUESTION, TALK):
        wanted = [*lead, *before.prompt(messages)]
        assert own.prompt(messages) == wanted
        settings: dict[str, Any] = {"add_generation_prompt": True}
        assert theirs.apply_chat_template(messages, return_dict=False, **settings) == wanted
        text = native.apply_chat_template(json.dumps(messages), **settings)
        assert native.encode(text).tolist() == wanted


@pytest.mark.parametrize("case", ["prompt", "prompt-untied", "prefix"])
def test_no_answer_holds_one(carried: Carried, case: str) -> None:
    runtime = Runtime(carried(case) / "cpu-fp32")
    lead = list(runtime.bundle.virtual_ids)
    logits = GraphSession(runtime.bundle).logits(runtime.prompter.prompt(QUESTION))
    assert (logits[:, lead] == NEVER).all()
    assert (logits[:, : lead[0]] > NEVER / 2).all()
    # Hot enough that every other token is as likely as the next, and with what penalizes the prompt's tokens.
    hot = runtime.complete(
        QUESTION, temperature=100.0, repetition_penalty=1.5, seed=3, max_new_tokens=200
    )
    assert hot.prompt_ids[: len(lead)] == lead
    assert hot.ids
    assert not set(hot.ids) & set(lead)


@pytest.mark.parametrize("case", ["prompt", "prefix", "prefix-gemma"])
def test_every_runtime_answers_alike(carried: Carried, case: str) -> None:
    bundle = carried(case) / "cpu-fp32"
    wanted = by_genai(bundle)
    assert sum(map(len, wanted)) > 4 * len(wanted)
    assert by_onnxruntime(bundle) == wanted


@pytest.mark.parametrize("case", ["prompt", "prefix", "prefix-gemma"])
def test_node_answers_alike(carried: Carried, case: str, node: str) -> None:
    bundle = carried(case) / "cpu-fp32"
    assert without_stop(by_transformers_js(bundle, node), bundle) == by_genai(bundle)


@pytest.mark.parametrize("case", ["prompt", "p_tuning", "prefix"])
def test_folders_from_elsewhere_are_taken(carried: Carried, tmp_path: Path, case: str) -> None:
    folder = _foreign(carried(case), tmp_path)
    inputs = {"base": carried(case) / "base", "adapter": folder}
    job = make_job(tmp_path / "job", {"merge": {"base": "dequantized", "grid": "none"}}, inputs)
    source, base = merged_source(job), open_base(carried(case) / "base")
    assert all(torch.equal(source.load(name), base.load(name)) for name in base.specs)
    unmerged = open_unmerged(job)
    assert unmerged is not None
    assert unmerged.virtual_tokens == len(_tensor(folder))


@pytest.mark.parametrize(
    ("case", "changes", "match"),
    [
        ("prompt", {"num_virtual_tokens": 6}, r"prompt_embeddings is \(5, 64\), .* \(6, 64\)"),
        ("prompt", {"num_virtual_tokens": "5"}, r"num_virtual_tokens: must be a whole number"),
        ("prompt", {"num_virtual_tokens": 10**9}, r"is not from 1 to 4096"),
        ("prompt", {"token_dim": 32}, r"token_dim: 32 is not this model's, which is 64"),
        ("prompt", {"num_transformer_submodules": 2}, r"num_transformer_submodules: 2 is not"),
        ("prompt", {"task_type": "SEQ_CLS"}, r"task_type: SEQ_CLS is not supported"),
        ("prefix", {"num_layers": 3}, r"num_layers: 3 is not this model's, which is 2"),
        ("prefix", {"num_attention_heads": 4}, r"num_attention_heads: 4 is not this model's"),
    ],
)
def test_what_contradicts_the_model_is_refused(
    carried: Carried, tmp_path: Path, case: str, changes: dict[str, Any], match: str
) -> None:
    folder = _foreign(carried(case), tmp_path)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(InputError, match=match):
        _open(carried(case), folder)


def test_tensors_that_do_not_belong_are_refused(carried: Carried, tmp_path: Path) -> None:
    folder = _foreign(carried("prompt"), tmp_path)
    whole = _tensor(folder)
    for tensors, match in (
        ({"prompt_embeddings": whole, "lm_head.weight": whole.clone()}, "holds lm_head.weight"),
        ({"other": whole}, "holds other, which"),
        ({"prompt_embeddings": whole * float("nan")}, "holds NaN"),
    ):
        save_file(tensors, str(folder / "adapter_model.safetensors"))
        with pytest.raises(InputError, match=match):
            _open(carried("prompt"), folder)


def test_what_changes_no_weight_is_not_compressed(carried: Carried, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="PREFIX_TUNING, which changes no weights"):
        compress_folder(carried("prefix") / "train" / "adapter", 2, tmp_path / "out")


def test_what_a_post_processor_did_it_still_does() -> None:
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    one, two = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    template = {
        "type": "TemplateProcessing",
        "single": [bos, one],
        "pair": [bos, one, two],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    virtual = {"SpecialToken": {"id": "<v>", "type_id": 0}}
    levels = {"type": "ByteLevel", "trim_offsets": False}
    for old, length in ((None, 1), (levels, 2), (template, 1)):
        made = leading(json.loads(json.dumps(old)), {"<v>": 9})
        steps = made.get("processors", [made])
        assert len(steps) == length
        assert steps[-1]["single"] == ([virtual, bos, one] if old is template else [virtual, one])
        assert steps[-1]["special_tokens"]["<v>"]["ids"] == [9]
    both = {"type": "Sequence", "processors": [levels, template]}
    made = leading(json.loads(json.dumps(both)), {"<v>": 9})
    assert [step["type"] for step in made["processors"]] == ["ByteLevel", "TemplateProcessing"]
    assert made["processors"][1]["pair"] == [virtual, bos, one, two]


def _foreign(case: Path, tmp_path: Path) -> Path:
    """The adapter as PEFT alone would leave it, to be changed."""
    folder = tmp_path / "foreign"
    shutil.copytree(case / "train" / "adapter", folder)
    (folder / "edgepeft_training.json").unlink()
    return folder


def _tensor(folder: Path) -> torch.Tensor:
    return load_file(str(folder / "adapter_model.safetensors"))["prompt_embeddings"]


def _open(case: Path, adapter: Path) -> None:
    inputs = {"base": case / "base", "adapter": adapter}
    open_unmerged(make_job(adapter.parent / "job", MERGE, inputs))
