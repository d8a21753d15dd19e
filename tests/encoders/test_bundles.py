"""Encoders' bundles compute what the unmerged adapter computes, and answer as transformers would."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
import transformers

from edgepeft.checkpoints.base_stage import EncoderFacts
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.evaluation.encoders import EXAMPLES, OUTPUTS
from edgepeft.models.sentence_files import Pooling
from edgepeft.models.tasks import CLASSIFICATION, EMBEDDING, ENCODER_TASKS, RANKING, TAGGING
from edgepeft.quantization.packed_weights import QuantizedWeights
from edgepeft.runtime import Bundle, Encoder
from edgepeft.runtime.encoder import EncoderSession
from edgepeft.runtime.pooling import Pooler
from tests.encoders.chain import CASES
from tests.encoders.conftest import result_of
from tests.simulation import put_codes
from tests.stages import Find

TEXT = "What is the colour of a lemon (number 17)? Turn on the light in the kitchen."


def cases(*targets: str) -> pytest.MarkDecorator:
    """Every case together with those of its targets that are asked for."""
    pairs = [(name, t) for name, case in CASES.items() for t in case.targets if t in targets]
    return pytest.mark.parametrize(("case", "target"), pairs)


def measures_of(built: Find, case: str, target: str) -> dict[str, Any]:
    return result_of(built(case, f"verify-{target}"))


def merged_model(built: Find, case: str, codes: Path | None = None) -> Any:
    """The merged model in torch, with quantized weights replaced by what their codes stand for."""
    loader = getattr(transformers, ENCODER_TASKS[CASES[case].task].auto_class)
    model = loader.from_pretrained(built(case, "merge"), dtype=torch.float32).eval()
    return put_codes(model, codes)


def output_of(model: Any, task: str, ids: list[int], types: list[int] | None = None) -> Any:
    told = {} if types is None else {"token_type_ids": torch.tensor([types])}
    with torch.no_grad():
        mask = torch.ones(1, len(ids), dtype=torch.long)
        outputs = model(input_ids=torch.tensor([ids]), attention_mask=mask, **told)
    return getattr(outputs, ENCODER_TASKS[task].output)[0].numpy()


@cases("cpu-fp32", "cuda-fp16")
def test_float_bundle_is_the_unmerged_adapter(built: Find, case: str, target: str) -> None:
    found = measures_of(built, case, target)
    # Training moved the model, so that the bare base would not pass.
    assert abs(found["base_task_loss"] - found["reference_task_loss"]) > 0.005
    tolerance = 1e-3 if target == "cuda-fp16" else 1e-5
    assert found["task_loss"] == pytest.approx(found["reference_task_loss"], abs=tolerance)
    if CASES[case].task == EMBEDDING:
        assert found["min_cosine_similarity"] > 1 - 1e-5
    elif CASES[case].task == RANKING:
        assert found["largest_score_difference"] < 1e-4
        assert found["rank_agreement"] == 1.0
    else:
        assert found["task_kl"] < (1e-5 if target == "cuda-fp16" else 1e-9)
        assert found["label_agreement"] == 1.0


@pytest.mark.parametrize("case", CASES)
def test_the_reference_is_what_the_trainer_saw(built: Find, case: str) -> None:
    """The trainer's own last evaluation, on the same rows, and transformers with the unmerged adapter."""
    history = json.loads((built(case, "train") / "history.json").read_text())
    (*_, last) = (entry["eval_loss"] for entry in history if "eval_loss" in entry)
    loss = result_of(built(case, "reference"))["reference"]["loss"]
    assert loss == pytest.approx(last, rel=5e-3)


@cases("cpu-int8", "cpu-int4")
def test_integer_graph_computes_what_its_codes_stand_for(
    built: Find, case: str, target: str
) -> None:
    bundle = Bundle.open(built(case, target))
    ids = list(range(5, 40))
    exact = output_of(merged_model(built, case), bundle.task, ids)
    wanted = output_of(
        merged_model(built, case, built(case, f"quantize-{target}")), bundle.task, ids
    )
    # Rounding is seen in the output, ten times as much as the graph may differ from its simulation.
    assert np.abs(wanted - exact).max() > 3e-4
    np.testing.assert_allclose(EncoderSession(bundle).run(ids), wanted, atol=3e-5, rtol=0)
    operators = bundle.manifest["result"]["operators"]
    assert operators["GatherBlockQuantized"] == 1
    assert operators["MatMulNBits"] >= 8


@cases("cpu-fp32")
def test_padding_changes_nothing(built: Find, case: str, target: str) -> None:
    """Other runtimes feed several texts at once, the shorter ones padded and masked."""
    bundle = Bundle.open(built(case, target))
    short, long = list(range(5, 12)), list(range(20, 60))
    ids = np.full((2, len(long)), 0 if "roberta" not in case else 1, np.int64)
    mask = np.zeros_like(ids)
    for row, sequence in enumerate((short, long)):
        ids[row, : len(sequence)], mask[row, : len(sequence)] = sequence, 1
    session = ort.InferenceSession(str(bundle.model_file))
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (found,) = session.run(None, {node.name: feeds[node.name] for node in session.get_inputs()})
    for row, sequence in enumerate((short, long)):
        alone = EncoderSession(bundle).run(sequence)
        together = found[row] if found.ndim == 2 else found[row, : len(sequence)]
        np.testing.assert_allclose(together, alone, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    "case", [n for n, c in CASES.items() if c.task == CLASSIFICATION and not c.paired]
)
def test_classifying_is_transformers_own(built: Find, case: str) -> None:
    target = CASES[case].targets[0]
    if target != "cpu-fp32":
        pytest.skip("transformers has no integer model to compare with")
    encoder = Encoder(built(case, target))
    tokenizer = transformers.AutoTokenizer.from_pretrained(built(case, target))
    pipeline = transformers.pipeline(
        "text-classification", merged_model(built, case), tokenizer=tokenizer, top_k=None
    )
    wanted = {one["label"]: one["score"] for one in pipeline([TEXT])[0]}
    found = encoder.classify(TEXT)
    assert {one.label: one.score for one in found} == pytest.approx(wanted, abs=1e-4)
    assert sum(one.score for one in found) == pytest.approx(1.0, abs=1e-5)
    assert found[0].score == max(one.score for one in found)


def test_spans_are_the_words_that_were_tagged(built: Find) -> None:
    """ModernBERT has learned its task by heart, so its spans can be foretold."""
    encoder = Encoder(built("modernbert-token-classification", "cpu-fp32"))
    text = "What is the colour of a lemon (number 31)?"
    found = [(span.label, span.text) for span in encoder.spans(text)]
    assert found == [("thing", "a lemon"), ("number", "31")]
    for span in encoder.spans(text):
        assert text[span.start : span.end] == span.text
        assert 0.5 < span.score <= 1.0


@pytest.mark.parametrize("case", ["minilm-feature-extraction", "modernbert-feature-extraction"])
def test_a_vector_is_the_mean_at_unit_length(built: Find, case: str) -> None:
    encoder = Encoder(built(case, "cpu-fp32"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(built(case, "cpu-fp32"))
    ids = tokenizer(TEXT)["input_ids"]
    mean = output_of(merged_model(built, case), EMBEDDING, ids).mean(axis=0)
    vector = encoder.embed(TEXT)
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
    assert EncoderFacts.read(built(case, "base")).pooling == Pooling("mean", True)


@pytest.mark.parametrize("case", CASES)
def test_a_changed_head_is_found_out(built: Find, case: str) -> None:
    """The reference's outputs are not those of the base: neither measure passes for both."""
    source = SafetensorsSource.from_file(built(case, "reference") / OUTPUTS)
    record = json.loads((built(case, "reference") / EXAMPLES).read_text())
    loader = getattr(transformers, ENCODER_TASKS[CASES[case].task].auto_class)
    base = loader.from_pretrained(built(case, "base"), dtype=torch.float32).eval()
    example = record["examples"][0]
    output = output_of(base, CASES[case].task, example["ids"], example["types"])
    stored = source.load("0").numpy()
    if CASES[case].task == EMBEDDING:
        pooling = EncoderFacts.read(built(case, "base")).pooling
        assert pooling is not None
        vector = Pooler(pooling, built(case, "base"))(output)
        cosine = np.dot(stored[0], vector) / (np.linalg.norm(stored[0]) * np.linalg.norm(vector))
        assert cosine < 0.9999
    else:
        logits = output[None] if output.ndim == 1 else output[example["positions"]]
        assert np.abs(logits - stored).max() > 0.02


def test_a_head_that_was_there_is_kept_and_trained(built: Find) -> None:
    base, trained = built("own-head", "base"), built("own-head", "train") / "adapter"
    assert EncoderFacts.read(base).new_modules == ()
    model = SafetensorsSource.from_folder(built("own-head", "model"))
    staged = SafetensorsSource.from_folder(base)
    assert torch.equal(model.load("classifier.weight"), staged.load("classifier.weight"))
    saved = SafetensorsSource.from_file(trained / "adapter_model.safetensors")
    assert "base_model.model.classifier.weight" in saved.specs


def test_a_new_head_trains_whole_and_stays_float(built: Find) -> None:
    case = f"minilm-{CLASSIFICATION}"
    assert EncoderFacts.read(built(case, "base")).new_modules == ("classifier",)
    record = json.loads((built(case, "train") / "adapter" / "edgepeft_training.json").read_text())
    assert "bert.encoder.layer.0.attention.self.query.weight" in record["quantized"]
    assert "classifier.weight" not in record["quantized"]
    plan = QuantizedWeights.open(built(case, "quantize-cpu-int4")).plan
    assert "bert.pooler.dense.weight" in plan.weights
    assert "classifier.weight" not in plan.weights


def test_gptq_looks_at_what_it_rounds(built: Find) -> None:
    """Calibrated on the task, int4 loses little there."""
    case = f"modernbert-{TAGGING}"
    assert measures_of(built, case, "cpu-int4")["task_kl"] < 2e-3
    assert result_of(built(case, "quantize-cpu-int4"))["algorithm"] == "gptq"


@pytest.mark.parametrize("case", [f"roberta-{CLASSIFICATION}", f"bert-{TAGGING}"])
def test_side_files_are_what_runtimes_look_for(built: Find, case: str) -> None:
    bundle = built(case, "cpu-int4")
    config = json.loads((bundle / "config.json").read_text())
    assert config["id2label"] == {str(i): label for i, label in enumerate(CASES[case].labels)}
    assert config["transformers.js_config"]["dtype"] == "q4"
    tokenizer = json.loads((bundle / "tokenizer_config.json").read_text())
    assert tokenizer["model_input_names"] == ["input_ids", "attention_mask"]
    # RoBERTa's first position stands behind its padding token.
    assert tokenizer["model_max_length"] == 128
    assert transformers.AutoTokenizer.from_pretrained(bundle)("a lemon")["input_ids"]


def test_a_bundle_of_the_other_kind_is_refused(built: Find) -> None:
    from edgepeft.errors import InputError
    from edgepeft.runtime import Runtime

    folder = built(f"minilm-{EMBEDDING}", "cpu-fp32")
    with pytest.raises(InputError, match="is for feature-extraction"):
        Runtime(folder)
    with pytest.raises(InputError, match="is for feature-extraction, not for text-classification"):
        Encoder(folder).classify(TEXT)


def test_labels_that_are_not_the_graphs_are_refused(built: Find, tmp_path: Path) -> None:
    from edgepeft.errors import InputError

    folder = tmp_path / "bundle"
    shutil.copytree(built(f"minilm-{CLASSIFICATION}", "cpu-int4"), folder)
    manifest = json.loads((folder / "edgepeft.json").read_text())
    manifest["result"]["labels"] = ["one"]
    (folder / "edgepeft.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"result.labels has 1 labels and the graph 3"):
        Encoder(folder)
