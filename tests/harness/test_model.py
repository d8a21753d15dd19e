"""A bundle answers lm_eval as lm_eval's own hf model does with the weights that it was made of."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgepeft.bundle.files import read_json
from edgepeft.errors import InputError
from edgepeft.events import Event, Events
from edgepeft.harness import BundleLM
from edgepeft.models.tasks import CLASSIFICATION
from edgepeft.runtime import Runtime
from tests.harness.conftest import Twins
from tests.runtime.fabricate import edit_json
from tests.tiny import CORPUS, write_tiny_model

NATS = 1e-3
LONG = " ".join(CORPUS[:10] * 6)
PAIRS = [
    ("What is the colour of snow?", " w"),
    ("What is the colour of snow?", " k"),
    ("What is the colour of snow? ", "white, as it was before."),
    ("Answer with one letter:\n", "b"),
    ("", "The quick brown fox"),
    (LONG[:600], " The colour of the sky is blue."),
    (LONG, " The colour of the sky is blue."),
    ("русский, 你好", "世界, 日本語"),
]
TURNS = [
    {"role": "system", "content": "Answer with one letter."},
    {"role": "user", "content": "What is the colour of grass?"},
    {"role": "assistant", "content": "g"},
    {"role": "user", "content": "What is the colour of snow?"},
]


def requests(kind: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [
        Instance(request_type=kind, doc={}, arguments=one, idx=place)
        for place, one in enumerate(arguments)
    ]


def furthest(ours: Any, theirs: Any, pairs: Sequence[tuple[str, str]]) -> float:
    """The largest difference of two models' log-likelihoods; whether each pair is greedy must be the same."""
    asked = requests("loglikelihood", pairs)
    mine, other = ours.loglikelihood(asked), theirs.loglikelihood(asked)
    assert [greedy for _, greedy in mine] == [greedy for _, greedy in other]
    return max(float(abs(a - b)) for (a, _), (b, _) in zip(mine, other, strict=True))


def test_log_likelihoods_are_those_of_hf(twins: Twins) -> None:
    ours, theirs = BundleLM(twins.bundle), twins.hf()
    assert (ours.max_length, ours.prefix_token_id) == (theirs.max_length, theirs.prefix_token_id)
    assert len(theirs.tok_encode(LONG)) > ours.max_length
    assert furthest(ours, theirs, PAIRS) < NATS
    assert ours.truncated == 1


def test_greedy_continuations_are_found(twins: Twins) -> None:
    """What greedy decoding says next is greedy for both, and is no longer with another token behind it."""
    ours, theirs, runtime = BundleLM(twins.bundle), twins.hf(), Runtime(twins.bundle)
    read, spell = ours.prompter.text, ours.prompter.decode
    pairs = []
    for text in CORPUS:
        ids = read(text)
        said = runtime.generate_ids(ids, max_new_tokens=1)
        following = spell([*ids, *said])[len(text) :]
        if read(text + following) == [*ids, *said]:
            pairs += [(text, following), (text, following + "!")]
    assert pairs
    asked = requests("loglikelihood", pairs)
    wanted = [True, False] * (len(pairs) // 2)
    assert [greedy for _, greedy in ours.loglikelihood(asked)] == wanted
    assert [greedy for _, greedy in theirs.loglikelihood(asked)] == wanted


def test_rolling_log_likelihoods_are_those_of_hf(twins: Twins) -> None:
    texts = [(CORPUS[0],), (LONG,), ("a",), ("",)]
    asked = requests("loglikelihood_rolling", texts)
    ours = BundleLM(twins.bundle).loglikelihood_rolling(asked)
    theirs = twins.hf().loglikelihood_rolling(asked)
    # The long text is some thousand tokens, each with an error of its own.
    assert ours == pytest.approx(theirs, abs=NATS)
    assert ours[1] < 10 * ours[0] < 0


def test_answers_are_those_of_hf(twins: Twins) -> None:
    asked = requests(
        "generate_until",
        [
            ("What is the colour of snow?", {"until": [], "max_gen_toks": 12}),
            ("What is the colour of snow?", {"until": ["e", "\n"], "max_gen_toks": 40}),
            ("Turn on", {"do_sample": False, "temperature": 0.7, "max_new_tokens": 9}),
            (LONG, {"until": "\n\n", "max_gen_toks": 16}),
        ],
    )
    model = BundleLM(twins.bundle)
    ours, theirs = model.generate_until(asked), twins.hf().generate_until(asked)
    assert ours == theirs
    assert len(set(ours)) == len(ours)
    assert model.truncated == 1


def test_conversations_are_those_of_hf(twins: Twins) -> None:
    """The tiny template writes no BOS, and an adapter is trained without one then; hf is told so."""
    ours, theirs = BundleLM(twins.bundle), twins.hf(add_bos_token=False)
    prompt = ours.apply_chat_template(TURNS)
    assert prompt == theirs.apply_chat_template(TURNS)
    begun = [*TURNS, {"role": "assistant", "content": '{"colour": "'}]
    started = ours.apply_chat_template(begun, add_generation_prompt=False)
    assert started == theirs.apply_chat_template(begun, add_generation_prompt=False)
    assert furthest(ours, theirs, [(prompt, "w"), (prompt, "white"), (started, 'w"')]) < NATS
    asked = requests("generate_until", [(prompt, {"max_gen_toks": 10})])
    assert ours.generate_until(asked) == theirs.generate_until(asked)
    # As the device asks it.
    ids = ours.prompter.prompt([{"role": "user", "content": "Turn on"}])
    single = ours.apply_chat_template([{"role": "user", "content": "Turn on"}])
    assert theirs.tok_encode(single) == ids


def test_other_weights_are_found_out(twins: Twins, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", "llama", std=0.1601)
    assert furthest(BundleLM(twins.bundle), twins.hf(other), PAIRS[:3]) > NATS


def test_texts_that_differ_in_their_last_token_are_read_once(twins: Twins) -> None:
    told: list[Event] = []
    model = BundleLM(twins.bundle, events=Events("eval", told.append, min_interval=0))
    pairs = [("Answer with one letter:", f" {letter}") for letter in "bgwk"]
    together = model.loglikelihood(requests("loglikelihood", pairs))
    alone = [model.loglikelihood(requests("loglikelihood", [pair]))[0] for pair in pairs]
    assert together == alone
    steps = [event["step"] for event in told if event["event"] == "progress"]
    assert steps[:3] == [0, 4, 0]


def test_a_control_token_in_a_row_is_text(twins: Twins) -> None:
    """lm_eval's prompts are strings, yet what stood in a row is still told from what the template wrote."""
    model = BundleLM(twins.bundle)
    said = [{"role": "user", "content": "What is <|im_end|> for?"}]
    prompt = model.apply_chat_template(said)
    wanted = model.prompter.prompt([{"role": "user", "content": "What is <|im_end|> for?"}])
    end = model.prompter.tokenizer.token_to_id("<|im_end|>")
    assert end is not None
    assert (wanted.count(end), prompt.count("<|im_end|>")) == (1, 2)
    ((nats, _),) = model.loglikelihood(requests("loglikelihood", [(prompt, "x")]))
    # In a fresh model nobody has rendered the prompt, as where lm_eval has it from its cache.
    ((taken, _),) = BundleLM(twins.bundle).loglikelihood(requests("loglikelihood", [(prompt, "x")]))
    assert not math.isclose(nats, taken, abs_tol=NATS)
    plain = model.apply_chat_template([{"role": "user", "content": "What is it for?"}])
    asked = requests("loglikelihood", [(plain, "x")])
    assert BundleLM(twins.bundle).loglikelihood(asked) == model.loglikelihood(asked)


def test_the_cache_of_prompts_knows_tokenizer_and_template(twins: Twins, tmp_path: Path) -> None:
    model = BundleLM(twins.bundle)
    assert model.tokenizer_name == BundleLM(twins.bundle).tokenizer_name
    assert "/" not in model.tokenizer_name
    assert model.chat_template(True) == model.prompter.template_source
    assert model.chat_template(False) is None
    plain = shutil.copytree(twins.bundle, tmp_path / "plain")
    edit_json(plain / "edgepeft.json", "result.prompt.mode", "plain")
    other = BundleLM(plain)
    assert other.tokenizer_name != model.tokenizer_name
    assert other.chat_template(True) == ""
    assert other.apply_chat_template([{"role": "user", "content": "Turn on"}]) == "Turn on\n"


def test_sampled_answers_repeat_with_their_seed(twins: Twins) -> None:
    settings = {"do_sample": True, "temperature": 1.0, "top_p": 0.9, "max_gen_toks": 12}
    asked = requests("generate_until", [("Turn on", settings)] * 2)
    first, second = BundleLM(twins.bundle, seed=3).generate_until(asked)
    assert [first, second] == BundleLM(twins.bundle, seed=3).generate_until(asked)
    assert first != second


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_beams": 4}, "generation_kwargs.num_beams: a bundle's runtime has no such setting"),
        ({"do_sample": True, "top_p": 7}, "generation_kwargs: top_p: must be above 0"),
        ({"max_gen_toks": 512}, "asks for answers of up to 512 tokens"),
    ],
)
def test_what_the_runtime_lacks_is_refused(
    twins: Twins, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as refused:
        BundleLM(twins.bundle).generate_until(requests("generate_until", [("Turn on", settings)]))
    assert said in str(refused.value)


def test_a_continuation_longer_than_the_context_is_refused(twins: Twins) -> None:
    with pytest.raises(InputError, match="does not fit into a context of 512"):
        BundleLM(twins.bundle).loglikelihood(requests("loglikelihood", [("a", LONG)]))


def test_encoders_are_refused(twins: Twins, tmp_path: Path) -> None:
    other = shutil.copytree(twins.bundle, tmp_path / "encoder")
    facts = read_json(other / "edgepeft.json")["result"]
    edit_json(
        other / "edgepeft.json", "result", {**facts, "task": CLASSIFICATION, "vocab_size": 512}
    )
    with pytest.raises(InputError, match=r"is for text-classification; eval takes bundles that"):
        BundleLM(other)
