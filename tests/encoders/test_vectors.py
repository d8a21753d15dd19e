"""Vectors of decoders, of other tokens than all, and through linear layers: bundles beside torch and PEFT."""

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
from peft import PeftModel
from safetensors.torch import load_file

from edgepeft.errors import InputError
from edgepeft.evaluation.witness.check import encoder_outputs, held
from edgepeft.evaluation.witness.stage import WitnessRecord
from edgepeft.runtime import Bundle, Encoder
from edgepeft.runtime.encoder import EncoderSession
from edgepeft.runtime.pooling import Pooler
from edgepeft.training.pooling import pooler
from tests.encoders.test_two_texts import cross_examined
from tests.stages import Find

CASES = ("embedder", "triples")
TEXT = "What is the colour of a lemon (number 17)?"


def by_hand(built: Find, case: str, text: str, longest: int) -> Any:
    """The vector by PEFT's own unmerged model and plain torch, after the files of the model as it was given."""
    model = built(case, "model")
    base = transformers.AutoModel.from_pretrained(built(case, "base"), dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, str(built(case, "train") / "adapter")).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    read = tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")
    with torch.no_grad():
        hidden = adapted(**read).last_hidden_state[0]
    vector = hidden[-1] if case == "embedder" else hidden[0]
    for place in sorted(model.glob("*_Dense")):
        stored = load_file(place / "model.safetensors")
        vector = stored["linear.weight"] @ vector
        if "linear.bias" in stored:
            vector = torch.tanh(vector + stored["linear.bias"])
    return vector / vector.norm() if case == "embedder" else vector


@pytest.mark.parametrize("text", [TEXT, TEXT * 30], ids=["short", "long"])
@pytest.mark.parametrize("case", CASES)
def test_a_vector_is_that_of_the_unmerged_adapter(built: Find, case: str, text: str) -> None:
    encoder = Encoder(built(case, "cpu-fp32"))
    vector = encoder.embed(text)
    assert vector.shape == (32,)
    wanted = by_hand(built, case, text, encoder.bundle.context_length)
    np.testing.assert_allclose(vector, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_leaves_a_decoders_last_token(built: Find, side: str) -> None:
    bundle = Bundle.open(built("embedder", "cpu-fp32"))
    short, longest = list(range(5, 12)), 20
    rest = longest - len(short)
    ids = [*[0] * rest, *short] if side == "left" else [*short, *[0] * rest]
    mask = [*[0] * rest, *[1] * len(short)] if side == "left" else [*[1] * len(short), *[0] * rest]
    session = ort.InferenceSession(str(bundle.model_file))
    feeds = {"input_ids": np.array([ids]), "attention_mask": np.array([mask])}
    (found,) = session.run(None, feeds)
    last = found[0, -1] if side == "left" else found[0, len(short) - 1]
    np.testing.assert_allclose(last, EncoderSession(bundle).run(short)[-1], atol=2e-5, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_training_and_device_pool_alike(built: Find, case: str) -> None:
    bundle = Bundle.open(built(case, "cpu-fp32"))
    device = Pooler.of_bundle(bundle)
    hidden = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 9, dtype=torch.int64)
    mask[1, 5:] = 0
    vectors = pooler(device.pooling, built(case, "base"))(hidden, mask)
    for row, length in enumerate((9, 5)):
        np.testing.assert_allclose(device(hidden[row, :length].numpy()), vectors[row], atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_the_witness_finds_a_pooling_that_is_not_the_models(
    built: Find, case: str, tmp_path: Path
) -> None:
    found = cross_examined(built, case, tmp_path)["witness"]
    assert found["difference"] < 1e-5
    assert found["reference"]["difference"] < 1e-5
    testimony = WitnessRecord.open(tmp_path / "witness")
    for change in (drop_bias, another_mode):
        folder = tmp_path / change.__name__
        shutil.copytree(built(case, "cpu-fp32"), folder)
        change(folder)
        wrong = held(testimony, encoder_outputs(Bundle.open(folder, check="none")))
        assert wrong.difference > 1e-2


def changed(folder: Path, **keys: Any) -> dict[str, Any]:
    manifest = json.loads((folder / "edgepeft.json").read_text())
    manifest["result"]["pooling"] |= keys
    (folder / "edgepeft.json").write_text(json.dumps(manifest))
    pooling: dict[str, Any] = manifest["result"]["pooling"]
    return pooling


def drop_bias(folder: Path) -> None:
    first, *more = changed(folder)["dense"]
    changed(folder, dense=[{**first, "bias": False}, *more])


def another_mode(folder: Path) -> None:
    changed(folder, mode="mean")


def test_a_layer_that_is_not_the_manifests_is_refused(built: Find, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(built("triples", "cpu-fp32"), folder)
    (layer,) = changed(folder)["dense"]
    for wrong, words in (
        ({"out_features": 31}, "is not the layer that edgepeft.json describes"),
        ({"folder": "../2_Dense"}, "is not a path inside the bundle"),
        ({"folder": "3_Dense"}, "3_Dense/model.safetensors is not among its outputs"),
        ({"activation": "gelu"}, "result.pooling must be an object"),
    ):
        changed(folder, dense=[{**layer, **wrong}])
        with pytest.raises(InputError, match=words):
            Encoder(folder)


def test_negatives_are_learned_from(built: Find) -> None:
    """The trainer's last evaluation is the reference's loss, over positives and negatives alike."""
    rows = (built("triples", "data") / "train.jsonl").read_text().splitlines()
    assert all("negative" in json.loads(row) for row in rows)
    record = json.loads((built("triples", "reference") / "examples.json").read_text())
    assert all(one["negative"] for one in record["examples"])
