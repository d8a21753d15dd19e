"""What is wrong with an encoder's recipe is one line, before anything begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgepeft.config.loader import load_recipe
from edgepeft.errors import EdgepeftError
from edgepeft.models.tasks import CLASSIFICATION, EMBEDDING, TAGGING
from edgepeft.pipeline.plan import Plan
from edgepeft.pipeline.planner import make_plan
from edgepeft.runs.folder import RunFolder
from tests.architectures.encoders import Case, write_case
from tests.tiny import write_tiny_model
from tests.tiny_encoders import LABELS, write_encoder_data, write_tiny_encoder


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
    with pytest.raises(EdgepeftError, match=r"rows of tags or pairs are for encoders"):
        plan(tmp_path, TAGGING)
    with pytest.raises(
        EdgepeftError, match=r"LlamaForCausalLM does not support feature-extraction"
    ):
        plan(tmp_path, EMBEDDING, task=EMBEDDING)


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
            "can't classify texts; decoders that can: Llama, Qwen 2, Qwen 3",
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
    with pytest.raises(EdgepeftError, match="decoders that classify texts: Llama"):
        plan(tmp_path, CLASSIFICATION)


def test_modules_and_heads_that_are_not_carried_are_named_by_the_plan(tmp_path: Path) -> None:
    plan(tmp_path, EMBEDDING, family="minilm")
    path = tmp_path / "model" / "modules.json"
    modules = json.loads(path.read_text())
    dense = {"idx": 3, "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    path.write_text(json.dumps([*modules[:2], dense]))
    with pytest.raises(EdgepeftError, match="its module Dense changes the vectors and is not"):
        plan(tmp_path, EMBEDDING)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"problem_type": "multi_label_classification"}, "takes several labels at once"),
        ({"problem_type": "regression"}, r"gives a number \(regression\)"),
    ],
)
def test_heads_of_other_problems(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    plan(tmp_path, CLASSIFICATION, head="SequenceClassification")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(EdgepeftError, match=match):
        plan(tmp_path, CLASSIFICATION)


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
