"""Log-probabilities of answers and scores of completions: those of transformers, in every engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepeft.data.rows import Message
from edgepeft.data.token_text import TokenTexts
from edgepeft.errors import InputError
from edgepeft.guidance import Grammar
from edgepeft.runtime import Bundle, Completion, Runtime
from edgepeft.runtime.answering import Answerer
from edgepeft.runtime.logprobs import TokenLogprob, token_logprob
from edgepeft.runtime.sampling import Sampler, Shift
from edgepeft.runtime.sampling_params import OutOfRange, SamplingParams
from edgepeft.runtime.search_options import GREEDY
from tests.runtime.conftest import every_engine, plain_copy
from tests.runtime.fabricate import write_tiny_bundle
from tests.tiny import write_tiny_model

PROMPTS = ["What is the colour of grass?", "日本語 🙂", "word " * 120]
ENGINES = ("genai", "plain", "speculation", "plain speculation", "batch")
CLOSE = 1e-4
ROOM = 24


class Torch:
    """The weights that the bundle was made of, by transformers alone."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM

        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()

    def likely(self, ids: list[int]) -> Any:
        """Log-probabilities [T, V] of what follows each of ``ids``."""
        import torch

        with torch.no_grad():
            return self._model(torch.tensor([ids])).logits[0].log_softmax(-1)

    def hold(self, prompt: list[int], tokens: list[TokenLogprob], top: int) -> None:
        """Hold the log-probabilities of what came after a prompt against the model's own."""
        ids = [token.id for token in tokens]
        rows = self.likely([*prompt, *ids])[len(prompt) - 1 : -1]
        assert len(rows) == len(tokens) > 0
        for row, token in zip(rows, tokens, strict=True):
            assert token.logprob == pytest.approx(float(row[token.id]), abs=CLOSE)
            values, _ = row.topk(top) if top else (row[:0], None)
            assert [nats for _, nats in token.top] == pytest.approx(values.tolist(), abs=CLOSE)
            for at, nats in token.top:
                assert nats == pytest.approx(float(row[at]), abs=CLOSE)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The weights, their bundle, and the same for plain onnxruntime alone."""
    pytest.importorskip("onnxruntime_genai")
    root = tmp_path_factory.mktemp("fp32")
    # Larger weights than other tests': a distribution near uniform would hide a shift by one token.
    weights = write_tiny_model(root / "llama", "llama", std=0.16)
    bundle = write_tiny_bundle(root / "bundle", root, "fp32")
    return weights, bundle, plain_copy(bundle, root / "plain")


@pytest.fixture(scope="module")
def torch_model(folders: tuple[Path, Path, Path]) -> Torch:
    return Torch(folders[0])


@pytest.fixture(scope="module")
def engines(folders: tuple[Path, Path, Path]) -> Iterator[Mapping[str, Answerer]]:
    _, bundle, plain = folders
    yield from every_engine(bundle, plain)


@pytest.fixture(params=ENGINES)
def engine(engines: Mapping[str, Answerer], request: pytest.FixtureRequest) -> Answerer:
    return engines[request.param]


# Answers.


@pytest.mark.parametrize("prompt", PROMPTS, ids=["short", "characters", "long"])
def test_they_are_transformers_own(engine: Answerer, torch_model: Torch, prompt: str) -> None:
    plain = engine.complete(prompt, max_new_tokens=ROOM)
    assert plain.logprobs == []
    # The second time the answer is guessed, where anything is.
    for top in (5, 0):
        done = engine.complete(prompt, max_new_tokens=ROOM, logprobs=top)
        assert done.ids == plain.ids
        assert [token.id for token in done.logprobs] == done.ids
        torch_model.hold(done.prompt_ids, done.logprobs, top)
        if top:
            assert all(token.top[0][0] == token.id for token in done.logprobs)


def test_they_are_the_models_before_anything_is_done_to_them(
    engine: Answerer, torch_model: Torch
) -> None:
    """Temperature, penalties, biases and top-k choose other tokens and leave their log-probabilities."""
    asked: list[dict[str, Any]] = [
        {"temperature": 1.5, "seed": 7, "top_p": 0.9},
        {"repetition_penalty": 1.4},
        {"frequency_penalty": 1.5, "presence_penalty": 0.5},
        {"logit_bias": {77: 100.0}},
        {"temperature": 0.8, "seed": 3, "frequency_penalty": -1.0},
    ]
    greedy = engine.complete(PROMPTS[0], max_new_tokens=ROOM).ids
    for fields in asked:
        without = engine.complete(PROMPTS[0], max_new_tokens=ROOM, **fields)
        done = engine.complete(PROMPTS[0], max_new_tokens=ROOM, logprobs=3, **fields)
        assert done.ids == without.ids != greedy
        torch_model.hold(done.prompt_ids, done.logprobs, 3)


def test_within_a_grammar_they_are_those_of_the_free_model(
    engine: Answerer, torch_model: Torch
) -> None:
    """Also those of tokens that had to come, which the model is not asked for otherwise."""
    pytest.importorskip("llguidance")
    grammar = Grammar.choices(["kitchen or hall", "kitchen and hall"])
    wanted = engine.complete(PROMPTS[0], max_new_tokens=ROOM, grammar=grammar)
    for _ in range(2):
        done = engine.complete(PROMPTS[0], max_new_tokens=ROOM, grammar=grammar, logprobs=2)
        assert (done.ids, done.text) == (wanted.ids, wanted.text)
        assert any(token.top[0][0] != token.id for token in done.logprobs)
        torch_model.hold(done.prompt_ids, done.logprobs, 2)


def test_a_planted_shift_by_one_token_is_found(
    engines: Mapping[str, Answerer], torch_model: Torch
) -> None:
    done = engines["genai"].complete(PROMPTS[0], max_new_tokens=ROOM, logprobs=1)
    shifted = [
        TokenLogprob(token.id, other.logprob, other.top)
        for token, other in zip(done.logprobs, done.logprobs[1:], strict=False)
    ]
    with pytest.raises(AssertionError):
        torch_model.hold(done.prompt_ids, shifted, 1)


def test_a_streams_are_there_with_its_pieces(engine: Answerer) -> None:
    whole = engine.complete(PROMPTS[0], max_new_tokens=ROOM, logprobs=1)
    with engine.stream(PROMPTS[0], max_new_tokens=ROOM, logprobs=1, stop=["\0"]) as stream:
        for count, _ in enumerate(stream):
            assert count == 0 or len(stream.logprobs) >= count
        assert stream.first_token_seconds is not None
    assert stream.completion().logprobs == whole.logprobs


def test_a_chats_next_turn(engines: Mapping[str, Answerer], torch_model: Torch) -> None:
    for name in ("genai", "plain", "speculation"):
        turns: list[Message] = [{"role": "user", "content": PROMPTS[0]}]
        for _ in range(3):
            done = engines[name].complete(turns, max_new_tokens=6, logprobs=2)
            torch_model.hold(done.prompt_ids, done.logprobs, 2)
            turns += [
                {"role": "assistant", "content": done.text},
                {"role": "user", "content": "And?"},
            ]


# Scores.


@pytest.mark.parametrize("prompt", PROMPTS, ids=["short", "characters", "long"])
@pytest.mark.parametrize("completion", ["green", "a long answer " * 14, "", "🙂"])
def test_a_score_is_transformers_own(
    engine: Answerer, torch_model: Torch, prompt: str, completion: str
) -> None:
    score = engine.score(prompt, completion, system="Be brief.", top=2)
    torch_model.hold(score.prompt_ids, score.tokens, 2)
    assert score.nats == pytest.approx(sum(token.logprob for token in score.tokens))
    ids = [token.id for token in score.tokens]
    assert ids[-1] in engine.prompter.stop_ids
    assert engine.prompter.decode(ids) == completion
    turns: list[Message] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": prompt},
    ]
    assert score.prompt_ids == engine.prompter.prompt(turns)


def test_a_greedy_answers_score_is_that_of_its_tokens(engine: Answerer) -> None:
    done = engine.complete(PROMPTS[0], max_new_tokens=ROOM, logprobs=0)
    score = engine.score_ids(done.prompt_ids, done.ids)
    assert score.nats == pytest.approx(sum(one.logprob for one in done.logprobs), abs=1e-3)


def test_raw_text_is_scored_without_the_template(engine: Answerer, torch_model: Torch) -> None:
    score = engine.score("The colour of the", " sky is blue", raw=True)
    torch_model.hold(score.prompt_ids, score.tokens, 0)
    ids = [*score.prompt_ids, *(token.id for token in score.tokens)]
    assert ids == engine.prompter.text("The colour of the sky is blue")
    assert engine.prompter.decode(score.prompt_ids) == "The colour of the"
    # A token across the seam is the completion's.
    within = engine.score("The col", "our", raw=True)
    assert [*within.prompt_ids, *(one.id for one in within.tokens)] == engine.prompter.text(
        "The colour"
    )
    assert engine.prompter.decode([one.id for one in within.tokens]).endswith("our")


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (("text", ""), "one or more tokens"),
        (("long " * 600, "x"), "and the context is 512"),
        (([{"role": "user", "content": "hi"}], "x"), "raw text is one string"),
    ],
)
def test_what_cannot_be_scored(engine: Answerer, asked: Any, wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        engine.score(*asked, raw=True)
    assert engine.score("x", "y").nats < 0


def test_ids_that_the_model_lacks(engine: Answerer) -> None:
    with pytest.raises(InputError, match="one or more before them"):
        engine.score_ids([], [5])
    for ids in ([-1], [512]):
        with pytest.raises(InputError, match="token ids below 512"):
            engine.score_ids([5], ids)
    with pytest.raises(InputError, match="logprobs: must be from 0 to 20, not 21"):
        engine.score("x", "y", top=21)


def test_across_a_switch_of_rotary_factors(
    folders: tuple[Path, Path, Path], torch_model: Torch
) -> None:
    """onnxruntime-genai reads its cache anew for its own tokens alone, plain onnxruntime for all."""
    _, bundle, plain = folders
    length = len(Runtime(plain, threads=1).prompter.prompt([{"role": "user", "content": "x"}]))
    switching = Runtime(replace(Bundle.open(bundle), rotary_switch=length + 4), threads=1)
    asked: list[dict[str, Any]] = [{"logprobs": 1}, {"presence_penalty": 1.0}]
    for fields in asked:
        with pytest.raises(
            InputError, match=r"can't follow; ask for fewer \(max_new_tokens up to 4\)"
        ):
            switching.complete("x", max_new_tokens=ROOM, **fields)
        assert len(switching.complete("x", max_new_tokens=4, **fields).ids) == 4
    with pytest.raises(InputError, match="scores can't follow"):
        switching.score("x", "a rather long answer")
    torch_model.hold([5], switching.score_ids([5], [6, 7]).tokens, 0)
    reading = Runtime(replace(Bundle.open(plain), rotary_switch=length + 4), threads=1)
    with pytest.raises(InputError, match="scores can't follow"):
        reading.score_ids([5], list(range(20, 20 + length + 30)))
    torch_model.hold([5], reading.score_ids([5], list(range(20, 23 + length))).tokens, 0)
    done = reading.complete("x", max_new_tokens=ROOM, logprobs=2)
    torch_model.hold(done.prompt_ids, done.logprobs, 2)


# What is added to logits.


def test_penalties_and_biases_are_the_same_in_every_engine(
    engines: Mapping[str, Answerer],
) -> None:
    asked: list[dict[str, Any]] = [
        {"frequency_penalty": 2.0},
        {"presence_penalty": 2.0},
        {"presence_penalty": -2.0, "logit_bias": {50: 3.0}},
        {"logit_bias": {60: 100.0}},
        {"frequency_penalty": 1.0, "temperature": 1.2, "seed": 5},
        {"frequency_penalty": 1.0, "repetition_penalty": 1.3},
    ]

    def ids(done: Completion) -> list[int]:
        return done.ids

    for fields in asked:
        answers = [
            ids(engine.complete(PROMPTS[0], max_new_tokens=ROOM, **fields))
            for engine in engines.values()
            for _ in range(2)
        ]
        assert answers == [answers[0]] * len(answers)
    banned = engines["genai"].complete(PROMPTS[0], max_new_tokens=1).ids[0]
    for engine in engines.values():
        assert engine.complete(PROMPTS[0], max_new_tokens=3, logit_bias={60: 100.0}).ids == [60] * 3
        done = engine.complete(PROMPTS[0], max_new_tokens=ROOM, logit_bias={banned: -100.0})
        assert banned not in done.ids


def test_a_token_counts_where_the_answer_said_it() -> None:
    """OpenAI's formula: logit - count * frequency - (count > 0) * presence, the prompt left out."""
    logits = np.array([0.0, 1.0, 2.0, 3.0], np.float32)
    shift = Shift.of(SamplingParams(frequency_penalty=0.5, presence_penalty=0.25), 2)
    assert shift is not None
    np.testing.assert_allclose(shift(logits, [3, 3, 1, 2, 1]), [0.0, -0.25, 1.25, 3.0])
    np.testing.assert_array_equal(logits, [0.0, 1.0, 2.0, 3.0])
    assert Shift.of(SamplingParams(), 2) is None
    assert Sampler(GREEDY, (), shift).choose(logits, [3, 3, 3, 3, 3]) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frequency_penalty", 2.1),
        ("presence_penalty", -2.1),
        ("presence_penalty", float("nan")),
        ("logprobs", 21),
        ("logprobs", -1),
        ("logit_bias", {5: 101}),
        ("logit_bias", {5: float("nan")}),
        ("logit_bias", {-1: 1}),
        ("logit_bias", {512: 1}),
    ],
)
def test_what_is_out_of_range_is_named(engine: Answerer, name: str, value: Any) -> None:
    asked: dict[str, Any] = {name: value}
    with pytest.raises(OutOfRange) as caught:
        engine.stream("x", **asked)
    assert caught.value.name == name


# The numbers, and what a token says.


def test_the_likeliest_stand_in_their_order() -> None:
    logits = np.array([1.0, 3.0, -1e9, 3.0, 2.0], np.float32)
    found = token_logprob(logits, 4, 3)
    assert [at for at, _ in found.top] == [1, 3, 4]
    assert found.top[2][1] == found.logprob
    assert len(token_logprob(logits, 0, 20).top) == 5
    alike = np.zeros(600, np.float32)
    assert [at for at, _ in token_logprob(alike, 0, 3).top] == [0, 1, 2]
    assert token_logprob(alike, 0, 0).logprob == pytest.approx(-np.log(600))
    assert token_logprob(logits, 0, 0).top == ()
    assert np.exp([nats for _, nats in token_logprob(logits, 0, 5).top]).sum() == pytest.approx(1)


def test_the_bytes_of_an_answers_tokens_are_its_text(engines: Mapping[str, Answerer]) -> None:
    prompter = engines["genai"].prompter
    texts = TokenTexts(prompter.tokenizer)
    said = "Große Straße, 日本語 🙂 \n  {}"
    begin, *ids = prompter.text(said)
    assert texts.text(begin) == "<|begin|>"
    parts = [texts.bytes_of(token) for token in ids]
    assert b"".join(part or b"" for part in parts).decode() == said
    cut = [texts.text(token) for token in ids if not _is_text(texts.bytes_of(token))]
    assert cut
    assert all(text.startswith("bytes:\\x") for text in cut)
    (stop,) = prompter.stop_ids
    assert texts.text(stop) == "<|im_end|>"
    assert (texts.bytes_of(10**6), texts.text(10**6)) == (None, "token:1000000")


def test_tokens_of_a_sentencepiece_vocabulary() -> None:
    from tokenizers import Tokenizer, decoders, models

    vocab = {"<unk>": 0, "▁Hi": 1, "hi": 2, "<0xF0>": 3, "<0x9F>": 4, "▁": 5}
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    texts = TokenTexts(tokenizer)
    assert [texts.text(token) for token in (1, 2, 5)] == [" Hi", "hi", " "]
    assert [texts.bytes_of(token) for token in (3, 4)] == [b"\xf0", b"\x9f"]
    assert texts.text(3) == "bytes:\\xf0"


def _is_text(found: bytes | None) -> bool:
    try:
        return found is not None and bool(found.decode())
    except UnicodeDecodeError:
        return False
