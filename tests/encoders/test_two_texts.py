"""Two texts that are read together, several labels at once, and scores: bundles beside PEFT's own model."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from peft import PeftModel

from edgepeft.checkpoints.base_stage import EncoderFacts
from edgepeft.data.texts import EncodedText, TextEncoder
from edgepeft.errors import InputError
from edgepeft.evaluation import encoders as fidelity
from edgepeft.evaluation.execution import Execution
from edgepeft.evaluation.settings import (
    ReferenceSettings,
    VerifySettings,
    WitnessSettings,
)
from edgepeft.evaluation.witness import encoders as witness
from edgepeft.runtime import Bundle, Encoder
from edgepeft.runtime.devices import CPU
from edgepeft.runtime.encoder import EncoderSession
from tests.conftest import SAMPLES
from tests.encoders.chain import CASES, DATA, ROWS
from tests.encoders.conftest import result_of
from tests.stages import Find, job_of

UNMERGED = ("pairs", "untyped-pairs", "several", "value-ranker", "decoder-ranker")
"""Cases trained on the base as it is, which PEFT loads by itself."""
SHORT = ("What is the colour of a lemon?", "Number 3: it is yellow.")
LONG = (" ".join([SHORT[0]] * 3), " ".join([SHORT[1]] * 40))
"""Cut at the end of the second, longer text."""


def unmerged(built: Find, case: str) -> Any:
    base = transformers.AutoModelForSequenceClassification.from_pretrained(
        built(case, "base"), dtype=torch.float32
    )
    return PeftModel.from_pretrained(base, str(built(case, "train") / "adapter")).eval()


def numbers(model: Any, tokenizer: Any, texts: tuple[str, ...]) -> Any:
    longest = min(tokenizer.model_max_length, 128)
    read = tokenizer(*texts, truncation=True, max_length=longest, return_tensors="pt")
    with torch.no_grad():
        return model(**read).logits[0].numpy()


def outputs(folder: Path, *texts: str) -> Any:
    """What a bundle's graph says of the tokens that its own tokenizer makes."""
    read = TextEncoder(folder, 128).encode(*texts)
    return EncoderSession(Bundle.open(folder)).run(read.ids, read.types)


@pytest.mark.parametrize("texts", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("case", UNMERGED)
def test_a_bundle_says_what_the_unmerged_adapter_says(
    built: Find, case: str, texts: tuple[str, ...]
) -> None:
    texts = texts if CASES[case].paired else texts[:1]
    tokenizer = transformers.AutoTokenizer.from_pretrained(built(case, "base"))
    wanted = numbers(unmerged(built, case), tokenizer, texts)
    found = outputs(built(case, "cpu-fp32"), *texts)
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)
    # The bundle's own tokenizer files, as other runtimes read them.
    own = transformers.AutoTokenizer.from_pretrained(built(case, "cpu-fp32"))
    np.testing.assert_allclose(numbers(unmerged(built, case), own, texts), wanted, atol=1e-6)


@pytest.mark.parametrize("case", ["pairs", "ranker"])
def test_what_tells_two_texts_apart_is_told(built: Find, case: str) -> None:
    assert EncoderFacts.read(built(case, "base")).token_types
    encoder = TextEncoder(built(case, "base"), 128)
    read = encoder.encode(*SHORT)
    assert set(read.types) == {0, 1}
    theirs = transformers.AutoTokenizer.from_pretrained(built(case, "cpu-fp32"))(*SHORT)
    assert (read.ids, read.types) == (theirs["input_ids"], theirs["token_type_ids"])
    session = EncoderSession(Bundle.open(built(case, "cpu-fp32")))
    difference = np.abs(session.run(read.ids, read.types) - session.run(read.ids)).max()
    assert difference > 3e-3


@pytest.mark.parametrize("case", ["untyped-pairs", "value-ranker", "several"])
def test_graphs_that_are_not_told_have_no_such_input(built: Find, case: str) -> None:
    assert not EncoderFacts.read(built(case, "base")).token_types
    tokenizer = json.loads((built(case, "cpu-fp32") / "tokenizer_config.json").read_text())
    assert tokenizer["model_input_names"] == ["input_ids", "attention_mask"]


def test_probabilities_and_scores_are_transformers_own(built: Find) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(built("pairs", "base"))
    logits = torch.from_numpy(numbers(unmerged(built, "pairs"), tokenizer, SHORT))
    labels = CASES["pairs"].labels
    found = Encoder(built("pairs", "cpu-fp32")).classify(*SHORT)
    wanted = dict(zip(labels, logits.softmax(-1).tolist(), strict=True))
    assert {one.label: one.score for one in found} == pytest.approx(wanted, abs=1e-5)
    tokenizer = transformers.AutoTokenizer.from_pretrained(built("several", "base"))
    logits = torch.from_numpy(numbers(unmerged(built, "several"), tokenizer, SHORT[:1]))
    found = Encoder(built("several", "cpu-fp32")).classify(SHORT[0])
    wanted = dict(zip(CASES["several"].labels, logits.sigmoid().tolist(), strict=True))
    assert {one.label: one.score for one in found} == pytest.approx(wanted, abs=1e-5)


def test_passages_come_in_the_order_of_their_scores(built: Find) -> None:
    passages = [
        f"Number {n}: it is {colour}." for n, colour in enumerate(("black", "red", "green"))
    ]
    for case, through in (("ranker", torch.sigmoid), ("value-ranker", torch.clone)):
        encoder = Encoder(built(case, "cpu-fp32"))
        ranked = encoder.rank(SHORT[0], passages)
        assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)
        for one in ranked:
            assert one.text == passages[one.index]
            number = torch.from_numpy(outputs(built(case, "cpu-fp32"), SHORT[0], one.text))
            assert one.score == pytest.approx(float(through(number)[0]), abs=1e-6)


def test_the_pair_asked_for_is_the_pair_read(built: Find) -> None:
    pairs, several = (Encoder(built(case, "cpu-fp32")) for case in ("pairs", "several"))
    with pytest.raises(InputError, match="reads two texts together; give a second one"):
        pairs.classify(SHORT[0])
    with pytest.raises(InputError, match="reads single texts; leave out the second one"):
        several.classify(*SHORT)
    with pytest.raises(InputError, match="pair: is empty"):
        pairs.classify(SHORT[0], " ")
    with pytest.raises(InputError, match="is for text-classification, not for text-ranking"):
        pairs.score(*SHORT)
    assert pairs.tokens_lost(*LONG) > 100
    assert pairs.tokens_lost(*SHORT) == 0


def test_a_look_alike_in_either_text_stays_text(built: Find) -> None:
    encoder = TextEncoder(built("pairs", "base"), 128)
    plain, looks = encoder.encode("a lemon", "so"), encoder.encode("a [SEP] lemon", "so [CLS]")
    separator = encoder.tokenizer.token_to_id("[SEP]")
    assert separator is not None
    assert plain.ids.count(separator) == looks.ids.count(separator) == 2
    assert looks.types == sorted(looks.types)
    assert len(looks.ids) > len(plain.ids)


def cross_examined(built: Find, case: str, folder: Path) -> dict[str, Any]:
    """The witness of a case, and what verification says with it."""
    method = {"merge": {"base": "dequantized", "grid": "auto"}, "task": CASES[case].task}
    data = {"data": {**DATA, "max_test_rows": ROWS, "max_length": 64}}
    inputs = {name: built(case, name) for name in ("base", "train", "model")}
    inputs["test"] = built(case, "data") / "test.jsonl"
    (folder / "witness").mkdir(parents=True)
    witness.run(job_of(WitnessSettings, folder / "witness", {**method, **data}, inputs))
    (folder / "verify").mkdir()
    shipped = {"bundle": built(case, "cpu-fp32"), "reference": built(case, "reference")}
    shipped |= {"base": built(case, "base"), "witness": folder / "witness"}
    settings = {"execution": Execution(CPU, CPU).as_dict()}
    verified = fidelity.verify(job_of(VerifySettings, folder / "verify", settings, shipped))
    return verified.as_dict()


@pytest.mark.parametrize("case", ["pairs", "several", "ranker"])
def test_the_witness_agrees(built: Find, case: str, tmp_path: Path) -> None:
    found = cross_examined(built, case, tmp_path)["witness"]
    assert found["difference"] < 1e-5
    assert found["reference"]["difference"] < 1e-5
    assert found["longest"] == 128


def test_a_reference_that_takes_both_texts_for_the_first_is_found_out(
    built: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference and bundle agree where both are blind to it; the witness has its types from transformers."""
    before: Callable[..., EncodedText] = TextEncoder.encode

    def blind(self: TextEncoder, text: str, second: str | None = None) -> EncodedText:
        read = before(self, text, second)
        return EncodedText(read.ids, read.places, read.lost, [0] * len(read.ids))

    monkeypatch.setattr(TextEncoder, "encode", blind)
    inputs = {name: built("pairs", name) for name in ("base", "train")}
    inputs["test"] = built("pairs", "data") / "test.jsonl"
    settings = {"merge": {"base": "dequantized", "grid": "auto"}, "task": CASES["pairs"].task}
    settings |= {"data": {**DATA, "max_test_rows": ROWS, "max_length": 64}}
    (tmp_path / "reference").mkdir()
    fidelity.reference(job_of(ReferenceSettings, tmp_path / "reference", settings, inputs))
    (tmp_path / "reference" / "edgepeft.json").write_text(
        (built("pairs", "reference") / "edgepeft.json").read_text()
    )

    def find(case: str, stage: str) -> Path:
        return tmp_path / "reference" if stage == "reference" else built(case, stage)

    found = cross_examined(find, "pairs", tmp_path / "blind")
    assert found["task_kl"] < 1e-9
    assert found["witness"]["reference"]["difference"] > 1e-3


def test_transformers_js_reads_two_texts_alike(built: Find, node: str) -> None:
    texts = (*SHORT, "Turn on the light.", "Number 4: it is black.")
    for case in ("pairs", "untyped-pairs"):
        bundle = built(case, "cpu-fp32")
        command = [node, "device/read.mjs", str(bundle), *texts]
        done = subprocess.run(command, cwd=SAMPLES, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for line, pair in zip(done.stdout.splitlines(), (texts[:2], texts[2:]), strict=True):
            np.testing.assert_allclose(json.loads(line), outputs(bundle, *pair), atol=1e-4)


def test_a_bundle_says_what_it_reads(built: Find) -> None:
    assert result_of(built("pairs", "cpu-fp32"))["token_types"] is True
    ranker = result_of(built("ranker", "cpu-int4"))
    assert ranker["paired"] is True
    assert ranker["scoring"] == {"loss": "bce", "activation": "sigmoid"}
    assert "paired" not in result_of(built("several", "cpu-fp32"))
    config = json.loads((built("several", "cpu-fp32") / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
