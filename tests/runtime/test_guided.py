"""Answers within a grammar: they hold, they are the same however tokens are decoded, and faults are found."""

from __future__ import annotations

import gc
import json
import re
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import numpy.typing as npt
import pytest

from edgepeft.cli.chat import chat
from edgepeft.data.rows import Message
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.guidance import FREE, Grammar
from edgepeft.guidance.matcher import Matcher
from edgepeft.runtime import Completion, Runtime
from edgepeft.runtime.answering import Answerer
from edgepeft.runtime.sampling_params import SamplingParams
from tests.runtime.conftest import every_engine

pytest.importorskip("llguidance")

PROMPTS = ["What is the colour of grass?", "Turn on the light", "日本語 🙂", "Say hi, not JSON."]
_TEXT = {"type": "string", "maxLength": 12}
COMMAND = {
    "type": "object",
    "properties": {
        "action": {"enum": ["turn_on", "turn_off", "set"]},
        "room": _TEXT,
        "value": {"type": ["integer", "null"], "minimum": 0, "maximum": 100},
    },
    "required": ["action", "room", "value"],
    "additionalProperties": False,
}
NESTED = {
    "$defs": {"tag": {"type": "string", "pattern": "^[a-z]{1,6}$"}},
    "type": "object",
    "properties": {
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 1, "maxItems": 3},
        "ok": {"type": "boolean"},
        "point": {
            "anyOf": [
                {"type": "null"},
                {
                    "type": "object",
                    "properties": {"x": {"type": "number", "minimum": -2, "maximum": 2}},
                    "required": ["x"],
                    "additionalProperties": False,
                },
            ]
        },
    },
    "required": ["tags", "ok", "point"],
    "additionalProperties": False,
}
COMPACT = {
    **COMMAND,
    "x-guidance": {
        "whitespace_flexible": False,
        "item_separator": ", ",
        "key_separator": ": ",
    },
}
SCHEMAS = [COMMAND, NESTED, COMPACT]
ROOM = 300


@pytest.fixture(scope="module")
def engines(tiny_bundle: Path, without_genai: Path) -> Iterator[dict[str, Answerer]]:
    yield from every_engine(tiny_bundle, without_genai)


def alike(engines: dict[str, Answerer], prompt: str, **asked: Any) -> Completion:
    """The answer of every engine, which is one and the same."""
    answers = {
        name: runtime.complete(prompt, max_new_tokens=ROOM, **asked)
        for name, runtime in engines.items()
    }
    first = answers["plain"]
    for name, answer in answers.items():
        assert (name, answer.ids, answer.text) == (name, first.ids, first.text)
        assert answer.finish_reason == "stop"
    return first


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("schema", SCHEMAS, ids=["command", "nested", "compact"])
def test_answers_fit_their_schema_in_every_engine(
    engines: dict[str, Answerer], schema: dict[str, Any], prompt: str
) -> None:
    grammar = Grammar.json_schema(schema)
    for asked in ({}, {"temperature": 1.5, "seed": 7}, {"repetition_penalty": 1.3}):
        text = alike(engines, prompt, grammar=grammar, **asked).text
        jsonschema.validate(json.loads(text), schema)
    if "x-guidance" in schema:
        assert text == json.dumps(json.loads(text), ensure_ascii=False)
    free = engines["plain"].complete(prompt, max_new_tokens=ROOM).text
    with pytest.raises(json.JSONDecodeError):
        json.loads(free)


@pytest.mark.parametrize(
    ("grammar", "holds"),
    [
        (
            Grammar.choices(["kitchen", "bed room", "日本"]),
            lambda text: text in ("kitchen", "bed room", "日本"),
        ),
        (Grammar.choices(["only this"]), lambda text: text == "only this"),
        (Grammar.regex("[a-z]{3,8}-[0-9]{2}"), re.compile("[a-z]{3,8}-[0-9]{2}").fullmatch),
        (
            Grammar.lark('start: "on" ("," NUMBER)~2\nNUMBER: /[0-9]{1,3}/'),
            re.compile(r"on(,\d{1,3}){2}").fullmatch,
        ),
    ],
    ids=["choices", "one choice", "regex", "lark"],
)
def test_other_grammars_hold_in_every_engine(
    engines: dict[str, Answerer], grammar: Grammar, holds: Callable[[str], Any]
) -> None:
    for prompt in PROMPTS:
        assert holds(alike(engines, prompt, grammar=grammar).text)


def test_what_must_come_takes_no_step(engines: dict[str, Answerer]) -> None:
    runtime = engines["genai"]
    matcher = runtime.matcher(Grammar.choices(["only this"]))
    assert matcher is not None
    forced = matcher.forced()
    assert runtime.prompter.decode(forced) == "only this"
    for token in forced:
        matcher.take(token)
    assert matcher.complete
    (stop,) = matcher.forced()
    assert stop in runtime.prompter.stop_ids


def test_a_guided_turn_of_a_conversation_and_the_free_one_after_it(
    engines: dict[str, Answerer],
) -> None:
    """A cache serves the next turn, whichever of the two was bound."""
    grammar = Grammar.json_schema(COMPACT)
    found = {}
    for name, runtime in engines.items():
        turns: list[Message] = [{"role": "user", "content": PROMPTS[0]}]
        said = []
        for bound in (grammar, FREE, grammar, None):
            answer = runtime.complete(turns, max_new_tokens=60, grammar=bound)
            said.append(answer.ids)
            turns += [
                {"role": "assistant", "content": answer.text},
                {"role": "user", "content": PROMPTS[1]},
            ]
            if bound is grammar:
                jsonschema.validate(json.loads(answer.text), COMPACT)
        found[name] = said
    assert all(said == found["plain"] for said in found.values())


def test_too_few_tokens_leave_an_answer_unfinished(engines: dict[str, Answerer]) -> None:
    grammar = Grammar.json_schema(COMMAND)
    for runtime in engines.values():
        answer = runtime.complete(PROMPTS[0], max_new_tokens=5, grammar=grammar)
        assert (answer.finish_reason, len(answer.ids)) == ("length", 5)


def test_an_answer_that_is_left_frees_what_follows_it(engines: dict[str, Answerer]) -> None:
    grammar = Grammar.json_schema(COMMAND)
    for runtime in engines.values():
        made: list[weakref.ref[Matcher]] = []
        real = runtime.matcher

        def watched(asked: Grammar | None, real: Any = real, made: Any = made) -> Matcher | None:
            matcher: Matcher | None = real(asked)
            made.append(weakref.ref(matcher))
            return matcher

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runtime, "matcher", watched)
            stream = runtime.stream(PROMPTS[0], max_new_tokens=ROOM, grammar=grammar)
            next(stream)
            stream.close()
            del stream
        # A batch frees a row between two of its steps; the answer after this one has the row.
        runtime.complete(PROMPTS[1], max_new_tokens=2)
        gc.collect()
        assert made[0]() is None


def test_a_grammar_that_fails_ends_its_own_answer_alone(
    engines: dict[str, Answerer], monkeypatch: pytest.MonkeyPatch
) -> None:
    exploding, real, calls = Grammar.regex("[a-z]+", "bad"), Matcher.allowed, Counter[int]()

    def spent(self: Matcher) -> npt.NDArray[np.bool_]:
        calls[id(self)] += 1
        if calls[id(self)] > 5:
            raise InputError("bad: takes too much to follow")
        return real(self)

    monkeypatch.setattr(Matcher, "allowed", spent)
    for runtime in engines.values():
        wanted = runtime.complete(PROMPTS[1], max_new_tokens=40).ids
        other = runtime.stream(PROMPTS[1], max_new_tokens=40)
        failing = runtime.stream(PROMPTS[0], max_new_tokens=400, grammar=exploding)
        with pytest.raises(InputError, match=r"^bad: "):
            for _ in failing:
                pass
        for _ in other:
            pass
        assert other.completion().ids == wanted


def test_a_failed_answer_does_not_end_a_chat(
    engines: dict[str, Answerer],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runtime, real, typed = engines["plain"], Matcher.allowed, iter(("one", "two", "/exit"))
    assert isinstance(runtime, Runtime)
    failing = [True]

    def once(self: Matcher) -> npt.NDArray[np.bool_]:
        if failing.pop() if failing else False:
            raise InputError("bad: takes too much to follow")
        return real(self)

    monkeypatch.setattr(Matcher, "allowed", once)
    monkeypatch.setattr("builtins.input", lambda _: next(typed))
    chat(
        runtime,
        SamplingParams(max_new_tokens=4),
        None,
        Grammar.regex("[a-z]{9}", "g"),
        show_stats=False,
    )
    said = capsys.readouterr()
    assert "bad: takes too much to follow (the conversation is as it was before)" in said.err
    wanted = runtime.complete("two", max_new_tokens=4, grammar=Grammar.regex("[a-z]{9}", "g"))
    assert said.out.strip() == wanted.text


def _without_mask(self: Matcher, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return logits


def test_a_mask_that_is_not_applied_is_found(engines: dict[str, Answerer]) -> None:
    grammar = Grammar.json_schema(COMMAND)
    for runtime in engines.values():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Matcher, "bounded", _without_mask)
            with pytest.raises(EdgepeftError, match="left its grammar"):
                runtime.complete(PROMPTS[0], max_new_tokens=ROOM, grammar=grammar)
            # And the answers' own check finds it without that.
            patch.setattr(Matcher, "take", lambda self, token: None)
            text = runtime.complete(PROMPTS[0], max_new_tokens=40, grammar=grammar).text
            with pytest.raises(json.JSONDecodeError):
                json.loads(text)


def test_a_forced_token_that_is_skipped_is_found(engines: dict[str, Answerer]) -> None:
    grammar = Grammar.json_schema(COMPACT)
    real = Matcher.forced
    for runtime in engines.values():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Matcher, "forced", lambda self: real(self)[1:])
            with pytest.raises(EdgepeftError, match="left its grammar"):
                runtime.complete(PROMPTS[0], max_new_tokens=ROOM, grammar=grammar)
