"""What is wrong with an encoder's recipe is one line, before anything begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from edgepeft.config.loader import load_recipe
from edgepeft.errors import EdgepeftError
from edgepeft.models.scoring import Scoring
from edgepeft.models.tasks import CLASSIFICATION, EMBEDDING, MULTI_LABEL, RANKING, TAGGING
from edgepeft.pipeline.plan import Plan
from edgepeft.pipeline.planner import make_plan
from edgepeft.runs.folder import RunFolder
from tests.architectures.encoders import Case, write_case
from tests.tiny import write_tiny_model
from tests.tiny_encoders import (
    LABELS,
    SEVERAL,
    write_encoder_data,
    write_sentence_files,
    write_tiny_encoder,
)


def plan(folder: Path, rows: str, *, family: str = "bert", head: str = "", **keys: Any) -> Plan:
    """Plan a recipe over a tiny encoder and rows of a kind; ``keys`` replace the recipe's."""
    if not (folder / "model").is_dir():
        write_tiny_encoder(folder / "model", family, head=head, labels=LABELS if head else ())
    if not (folder / "train.jsonl").is_file():
        write_encoder_data(folder, rows)
    recipe = {
        "model": "model",
        "data": {"train": "train.jsonl", "test": "test.jsonl"},
        "targets": ["cpu-int8"],
        **keys,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return make_plan(load_recipe(folder / "recipe.yaml", ()), RunFolder(folder / "run"))


def write_rows(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("task", [CLASSIFICATION, TAGGING, EMBEDDING])
def test_the_rows_tell_the_task_of_a_bare_encoder(tmp_path: Path, task: str) -> None:
    made = plan(tmp_path, task)
    assert made.resolved.task == task
    assert made.resolved.targets[0].profile.exporter == "encoder"
    labels = {CLASSIFICATION: sorted(LABELS), TAGGING: ["O", "B-number", "B-thing", "I-thing"]}
    assert list(made.resolved.labels) == labels.get(task, [])
    assert made.stage("base").settings.identity()["task"] == task


def test_the_head_of_a_model_tells_its_task_and_labels(tmp_path: Path) -> None:
    made = plan(tmp_path, CLASSIFICATION, head="SequenceClassification")
    assert made.resolved.task == CLASSIFICATION
    assert made.resolved.labels == LABELS


def test_labels_enter_the_keys_of_the_stages(tmp_path: Path) -> None:
    first = plan(tmp_path, CLASSIFICATION)
    data = {"train": "train.jsonl", "test": "test.jsonl", "labels": ["warm", "bright", "dark"]}
    second = plan(tmp_path, CLASSIFICATION, data=data)
    assert second.resolved.labels == ("warm", "bright", "dark")
    assert first.stage("train").key != second.stage("train").key


@pytest.mark.parametrize(
    ("task", "keys", "words"),
    [
        (CLASSIFICATION, {"targets": ["cpu-nf4"]}, "cpu-nf4: is for text generation only"),
        (CLASSIFICATION, {"targets": ["trt-rtx-int4"]}, "trt-rtx-int4: is for text generation"),
        (
            CLASSIFICATION,
            {"task": "text-generation"},
            "BertForMaskedLM does not support text-generation",
        ),
        (
            CLASSIFICATION,
            {"task": EMBEDDING},
            "train.jsonl line 1: feature-extraction needs anchor",
        ),
        (EMBEDDING, {"quantize": {"max_bytes": "9MB"}}, "quantize.max_bytes: this key is for"),
        (TAGGING, {"training": {"objective": "text"}}, "training.objective: this key is for"),
        (
            CLASSIFICATION,
            {"method": {"name": "trainable_tokens"}},
            "can't train the classification head",
        ),
        (CLASSIFICATION, {"adapter": [{"path": "a"}, {"path": "b"}]}, "not a PEFT adapter|no such"),
    ],
)
def test_what_encoders_have_not_is_refused(
    tmp_path: Path, task: str, keys: dict[str, Any], words: str
) -> None:
    with pytest.raises(EdgepeftError, match=words) as raised:
        plan(tmp_path, task, **keys)
    assert "\n" not in str(raised.value)


def test_a_layout_for_another_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        EdgepeftError, match="layout: genai: onnxruntime-genai does not run text-classification"
    ):
        plan(tmp_path, CLASSIFICATION, layout="genai")
    assert plan(tmp_path, CLASSIFICATION, layout="transformers.js").stages


def test_an_unknown_label_in_the_test_rows_is_named(tmp_path: Path) -> None:
    write_encoder_data(tmp_path, CLASSIFICATION)
    write_rows(tmp_path / "test.jsonl", {"text": "grass", "label": "green"})
    with pytest.raises(EdgepeftError, match=r"test.jsonl line 1: the label 'green' is not among"):
        plan(tmp_path, CLASSIFICATION)


def test_a_missing_label_column_is_named(tmp_path: Path) -> None:
    write_encoder_data(tmp_path, CLASSIFICATION)
    write_rows(tmp_path / "train.jsonl", {"text": "grass", "colour": "dark"})
    with pytest.raises(EdgepeftError, match=r"train.jsonl line 1: text-classification needs text"):
        plan(tmp_path, CLASSIFICATION, task=CLASSIFICATION)
    data = {"train": "train.jsonl", "test": "test.jsonl", "columns": {"label": "color"}}
    with pytest.raises(EdgepeftError, match=r"no column 'color' for data.columns.label"):
        plan(tmp_path, CLASSIFICATION, data=data)


def test_tags_and_tokens_must_match(tmp_path: Path) -> None:
    write_encoder_data(tmp_path, TAGGING)
    write_rows(tmp_path / "train.jsonl", {"tokens": ["a", "lemon"], "tags": ["O"]})
    with pytest.raises(EdgepeftError, match=r"line 1: 2 tokens and 1 tags; every token needs one"):
        plan(tmp_path, TAGGING)


def test_rows_of_another_kind_in_the_middle_are_named(tmp_path: Path) -> None:
    train, _ = write_encoder_data(tmp_path, CLASSIFICATION)
    train.write_text(train.read_text() + json.dumps({"text": "no label here"}) + "\n")
    with pytest.raises(EdgepeftError, match=r"train.jsonl line 25: text-classification needs text"):
        plan(tmp_path, CLASSIFICATION)


def test_pickle_weights_are_refused(tmp_path: Path) -> None:
    model = write_tiny_encoder(tmp_path / "model", "bert")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(EdgepeftError, match=r"holds only pickle weights"):
        plan(tmp_path, CLASSIFICATION)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"model_type": "mobilebert", "architectures": ["MobileBertModel"]},
            "supported encoders: BERT",
        ),
        ({"is_decoder": True}, "is_decoder is set"),
        ({"position_embedding_type": "relative_key"}, "only absolute ones are supported"),
    ],
)
def test_unsupported_encoders_are_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    model = write_tiny_encoder(tmp_path / "model", "bert")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(EdgepeftError, match=words):
        plan(tmp_path, CLASSIFICATION)


def test_a_model_that_generates_refuses_an_encoders_rows(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model", "llama")
    with pytest.raises(
        EdgepeftError, match=r"rows of tags, pairs, scores or lists of labels are for encoders"
    ):
        plan(tmp_path, TAGGING)
    with pytest.raises(EdgepeftError, match="rows of tags, pairs, scores or lists of labels are"):
        plan(tmp_path / "pairs", EMBEDDING, model=str(tmp_path / "model"))


def test_a_decoder_is_given_a_head_where_that_is_asked_for(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model", "llama")
    made = plan(tmp_path, CLASSIFICATION, task=CLASSIFICATION)
    assert (made.resolved.task, list(made.resolved.labels)) == (CLASSIFICATION, sorted(LABELS))
    assert made.resolved.targets[0].profile.exporter == "encoder"


@pytest.mark.parametrize(
    ("family", "task", "words"),
    [
        ("llama", TAGGING, "LlamaForCausalLM does not support token-classification"),
        (
            "gemma2",
            CLASSIFICATION,
            "can't classify or embed texts; decoders that can: Llama, Qwen 2, Qwen 3",
        ),
    ],
)
def test_decoders_that_cannot_are_refused(
    tmp_path: Path, family: str, task: str, words: str
) -> None:
    write_tiny_model(tmp_path / "model", family)
    with pytest.raises(EdgepeftError, match=words) as raised:
        plan(tmp_path, task, task=task)
    assert "\n" not in str(raised.value)


def test_a_classifier_of_another_kind_names_those_that_are_supported(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model", "llama")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config |= {"model_type": "mpt", "architectures": ["MptForSequenceClassification"]}
    config["id2label"] = dict(enumerate(LABELS))
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(EdgepeftError, match="decoders that classify and embed texts: Llama"):
        plan(tmp_path, CLASSIFICATION)


def test_modules_and_heads_that_are_not_carried_are_named_by_the_plan(tmp_path: Path) -> None:
    plan(tmp_path, EMBEDDING, family="minilm")
    path = tmp_path / "model" / "modules.json"
    modules = json.loads(path.read_text())
    other = {"idx": 3, "path": "3_CNN", "type": "sentence_transformers.models.CNN"}
    path.write_text(json.dumps([*modules[:2], other]))
    with pytest.raises(EdgepeftError, match="its module CNN changes the vectors and is not"):
        plan(tmp_path, EMBEDDING)
    write_sentence_files(tmp_path / "model", "mean_tokens", "Dense", "Normalize")
    assert plan(tmp_path, EMBEDDING).stages
    path = tmp_path / "model" / "2_Dense" / "config.json"
    save_file({"linear.weight": torch.zeros(8, 72)}, path.with_name("model.safetensors"))
    path.write_text(json.dumps({"in_features": 72, "out_features": 8, "bias": False}))
    with pytest.raises(EdgepeftError, match="in_features: 72, and the vectors before it have 64"):
        plan(tmp_path, EMBEDDING)


def configured(folder: Path, **changes: Any) -> None:
    path = folder / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"problem_type": "multi_label_classification"},
            "multi-label-classification needs text and labels in every row",
        ),
        ({"problem_type": "regression"}, "its head gives 3 numbers, and only one"),
        ({"id2label": {"0": "LABEL_0"}}, "text-ranking needs query, passage and score in every"),
    ],
)
def test_heads_of_other_problems(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    plan(tmp_path, CLASSIFICATION, head="SequenceClassification")
    configured(tmp_path, **changes)
    with pytest.raises(EdgepeftError, match=match):
        plan(tmp_path, CLASSIFICATION)


def test_the_configuration_tells_what_a_head_says(tmp_path: Path) -> None:
    data = {"train": "train.jsonl", "test": "test.jsonl", "labels": list(SEVERAL)}
    made = plan(tmp_path / "several", MULTI_LABEL, head="SequenceClassification", data=data)
    # Nothing says that its labels exclude each other.
    assert made.resolved.task == MULTI_LABEL
    write_tiny_encoder(
        tmp_path / "model", "bert", head="SequenceClassification", labels=("LABEL_0",)
    )
    resolved = plan(tmp_path, RANKING).resolved
    assert (resolved.task, resolved.labels, resolved.paired) == (RANKING, (), True)
    assert resolved.scoring == Scoring("bce", "sigmoid")
    configured(tmp_path, sbert_ce_default_activation_function="torch.nn.modules.linear.Identity")
    assert plan(tmp_path, RANKING).resolved.scoring == Scoring("bce", "identity")
    configured(tmp_path, sentence_transformers={"activation_fn": "evil.Code"})
    with pytest.raises(EdgepeftError, match=r"activation_fn: evil\.Code is not supported"):
        plan(tmp_path, RANKING)
    configured(
        tmp_path, sentence_transformers={"activation_fn": "torch.nn.modules.activation.Sigmoid"}
    )
    write_rows(tmp_path / "test.jsonl", {"query": "a", "passage": "b", "score": 4.5})
    with pytest.raises(EdgepeftError, match="its scores go through a sigmoid, from 0 to 1"):
        plan(tmp_path, RANKING)


PAIR = {"text": "a", "text_pair": "b", "label": "dark"}


@pytest.mark.parametrize(
    ("task", "row", "keys", "words"),
    [
        (
            CLASSIFICATION,
            PAIR,
            {},
            r"train\.jsonl line 1: has no text_pair, and test\.jsonl line 1",
        ),
        (CLASSIFICATION, {**PAIR, "text_pair": " "}, {}, "line 1: text_pair is empty"),
        (RANKING, PAIR, {}, "test.jsonl line 1: text-ranking needs query, passage and score"),
        (EMBEDDING, PAIR, {}, "test.jsonl line 1: feature-extraction needs anchor and positive"),
        (RANKING, {"query": "a", "passage": "b", "score": "good"}, {}, "score should be a number"),
        (RANKING, {"query": "a", "passage": "b", "score": None}, {}, "number, is nothing"),
        (RANKING, {"query": "a", "passage": "b", "score": "inf"}, {}, "a number, is 'inf'"),
        (RANKING, {"query": "a", "passage": "", "score": 1}, {}, "passage must both hold text"),
        (
            MULTI_LABEL,
            {"text": "a", "labels": ["green"]},
            {},
            "label 'green' is not among the labels",
        ),
        (MULTI_LABEL, {"text": "a", "labels": [0, 1, 0]}, {}, "labels holds '0' twice"),
        (
            MULTI_LABEL,
            {"text": "a", "labels": None},
            {},
            r"a list of a text's labels \(\[\] for none",
        ),
        (MULTI_LABEL, {"text": "a", "labels": [["x"]]}, {}, "which is no name of a label"),
        (
            RANKING,
            None,
            {"data": {"labels": ["a", "b"]}},
            "data.labels: text-ranking has no labels",
        ),
        (RANKING, None, {"method": {"name": "trainable_tokens"}}, "can't train the classification"),
    ],
)
def test_rows_that_do_not_fit_are_named(
    tmp_path: Path, task: str, row: dict[str, Any] | None, keys: dict[str, Any], words: str
) -> None:
    write_encoder_data(tmp_path, task)
    if row is not None:
        write_rows(tmp_path / "test.jsonl", row)
    if "data" in keys:
        keys["data"] |= {"train": "train.jsonl", "test": "test.jsonl"}
    with pytest.raises(EdgepeftError, match=words) as raised:
        plan(tmp_path, task, **keys)
    assert "\n" not in str(raised.value)


def test_lists_of_labels_that_are_all_empty_teach_nothing(tmp_path: Path) -> None:
    write_encoder_data(tmp_path, MULTI_LABEL)
    write_rows(tmp_path / "train.jsonl", {"text": "a", "labels": []}, {"text": "b", "labels": []})
    with pytest.raises(EdgepeftError, match="line 1: labels: is empty here and in every other"):
        plan(tmp_path, MULTI_LABEL)


def test_rotary_positions_that_go_by_length_are_refused(tmp_path: Path) -> None:
    write_case(Case("Gte", task=EMBEDDING), tmp_path / "model")
    assert plan(tmp_path, EMBEDDING).stages
    configured(tmp_path, rope_parameters={"rope_type": "dynamic", "factor": 8.0})
    with pytest.raises(EdgepeftError, match="GteModel: its rotary positions depend on the length"):
        plan(tmp_path, EMBEDDING)


def test_a_decoder_with_files_of_pooling_embeds_pairs(tmp_path: Path) -> None:
    write_sentence_files(write_tiny_model(tmp_path / "model", "qwen3"), "lasttoken", "Normalize")
    assert plan(tmp_path, EMBEDDING).resolved.task == EMBEDDING


def test_the_longest_text_is_that_of_sentence_transformers(tmp_path: Path) -> None:
    assert plan(tmp_path, EMBEDDING, family="minilm").resolved.model.context_length == 128
    said = json.dumps({"max_seq_length": 40})
    (tmp_path / "model" / "sentence_bert_config.json").write_text(said)
    assert plan(tmp_path, EMBEDDING).resolved.model.context_length == 40
    data = {"train": "train.jsonl", "test": "test.jsonl", "max_length": 41}
    with pytest.raises(
        EdgepeftError, match="max_length: 41 is longer than the model's context, 40 tokens"
    ):
        plan(tmp_path, EMBEDDING, data=data)


def test_a_model_whose_layers_share_weights_is_rounded_without_calibration(tmp_path: Path) -> None:
    write_case(Case("Albert", task=EMBEDDING), tmp_path / "model")
    made = plan(tmp_path, CLASSIFICATION, task=CLASSIFICATION, targets=["cpu-int4", "cpu-int8"])
    assert [target.algorithm for target in made.resolved.targets] == ["k_quant", "rtn"]
    assert "cpu-int4: rounded without calibration, for its layers share their weights" in made.notes
    with pytest.raises(EdgepeftError, match=r"quantize: AlbertModel can't be calibrated layer by"):
        plan(tmp_path, CLASSIFICATION, task=CLASSIFICATION, quantize={"algorithm": "gptq"})


def test_bfloat16_is_refused_where_a_model_cant_be_trained_in_it(tmp_path: Path) -> None:
    write_case(Case("Deberta", task=EMBEDDING), tmp_path / "model")
    with pytest.raises(EdgepeftError, match=r"training.compute_dtype: DebertaModel can't be"):
        plan(tmp_path, CLASSIFICATION, training={"compute_dtype": "bfloat16"})
    plan(tmp_path, CLASSIFICATION, training={"compute_dtype": "float32"})


def test_a_deberta_v3_that_names_no_architecture_is_a_bare_encoder(tmp_path: Path) -> None:
    model = write_case(Case("DebertaV2", task=EMBEDDING), tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    del config["architectures"]
    (model / "config.json").write_text(json.dumps(config))
    assert plan(tmp_path, TAGGING).resolved.task == TAGGING
