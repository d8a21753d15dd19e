"""Every field that a client may send is honoured, harmless or refused by name: the tables against others'
lists.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from edgepeft.serving.body import Fields
from edgepeft.serving.chat import ChatRequest
from edgepeft.serving.completions import CompletionRequest
from edgepeft.serving.fields import (
    COMPLETION_NEUTRAL,
    EMBEDDING_NEUTRAL,
    HARMLESS,
    MESSAGE_NEUTRAL,
    NEUTRAL,
    PART_NEUTRAL,
    RERANK_NEUTRAL,
    STREAM_NEUTRAL,
)
from edgepeft.serving.refusals import RequestError
from edgepeft.serving.text_requests import EmbeddingRequest, RerankRequest

LISTS = {
    name: entry["fields"].split()
    for name, entry in json.loads(
        (Path(__file__).parent / "request_fields.json").read_text(encoding="utf-8")
    ).items()
}
OF_REQUESTS = ("openai", "openai_completions", "vllm", "vllm_older", "llama_cpp", "other_clients")
HONOURED = frozenset(ChatRequest.model_fields)
SAMPLES: tuple[Any, ...] = (
    *(True, False, 0, 1, 2, 3.5, -7, "text", "none", "auto"),
    *([], [1], ["x"], {}, {"a": 1}, [{"type": "function"}], {"type": "json_object"}),
)


def asked(**fields: Any) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return ChatRequest.read(json.dumps(body).encode())


def refusal(**fields: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        asked(**fields)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize("name", OF_REQUESTS)
def test_every_field_of_others_is_in_one_table(name: str) -> None:
    for field in LISTS[name]:
        places = [field in HONOURED, field in HARMLESS, field in NEUTRAL]
        assert sum(places) == 1, f"{field} of {name} is in {sum(places)} tables"


def test_the_tables_have_no_field_of_nobodys() -> None:
    known = {field for name in OF_REQUESTS for field in LISTS[name]}
    assert set(NEUTRAL) | HARMLESS | HONOURED <= known
    assert set(MESSAGE_NEUTRAL) | {"role", "content"} == {
        *LISTS["openai_message"],
        *LISTS["message_of_others"],
    }
    assert set(PART_NEUTRAL) | {"type", "text"} == set(LISTS["openai_part"])
    assert set(STREAM_NEUTRAL) | {"include_usage"} == set(LISTS["openai_stream_options"])


@pytest.mark.parametrize(
    ("module", "name", "request_of"),
    [
        ("chat.completion_create_params", "CompletionCreateParamsNonStreaming", ChatRequest),
        ("completion_create_params", "CompletionCreateParamsNonStreaming", CompletionRequest),
        ("embedding_create_params", "EmbeddingCreateParams", EmbeddingRequest),
    ],
)
def test_fields_of_the_installed_openai_package_are_known(
    module: str, name: str, request_of: type[Fields]
) -> None:
    """A field that is new there must be put into a table here."""
    params = pytest.importorskip(f"openai.types.{module}", reason="openai is not installed")
    found = set(get_type_hints(getattr(params, name)))
    assert len(found) > 4
    assert found <= set(request_of.model_fields) | request_of.harmless | set(request_of.neutral)


@pytest.mark.parametrize("name", OF_REQUESTS)
def test_a_raw_prompts_request_knows_the_fields_of_a_chat(name: str) -> None:
    for field in LISTS[name]:
        assert field in {*CompletionRequest.model_fields, *HARMLESS, *COMPLETION_NEUTRAL}


@pytest.mark.parametrize(
    ("request_of", "plain", "neutral"),
    [
        (CompletionRequest, {"prompt": "x"}, COMPLETION_NEUTRAL),
        (EmbeddingRequest, {"input": "x"}, EMBEDDING_NEUTRAL),
        (RerankRequest, {"query": "x", "documents": ["y"]}, RERANK_NEUTRAL),
    ],
)
def test_the_other_requests_refuse_by_name_what_they_do_not_honour(
    request_of: type[Fields], plain: dict[str, Any], neutral: dict[str, tuple[Any, ...]]
) -> None:
    def read(**more: Any) -> Fields:
        return request_of.read(json.dumps({"model": "m", **plain, **more}).encode())

    for field in neutral.keys() - request_of.model_fields.keys():
        for value in (None, *neutral[field]):
            assert read(**{field: value}) == read()
        with pytest.raises(RequestError) as caught:
            read(**{field: ["something"]})
        assert (caught.value.param, caught.value.code) == (field, "unsupported_parameter")
    for field in request_of.harmless:
        assert read(**{field: ["something"]}) == read()
    with pytest.raises(RequestError, match="not a field that this server knows"):
        read(nonsense=None)


@pytest.mark.parametrize("field", sorted(NEUTRAL))
def test_a_field_that_is_not_supported_is_refused_by_name(field: str) -> None:
    """All values but those that ask for nothing."""
    plain = asked()
    assert asked(**{field: None}) == plain
    refused = 0
    for value in SAMPLES:
        allowed = [one for one in NEUTRAL[field] if type(one) is type(value) and one == value]
        if allowed:
            assert asked(**{field: value}) == plain
            continue
        error = refusal(**{field: value})
        assert str(error).startswith(f"{field}: is not supported by this server")
        assert (error.param, error.code) == (field, "unsupported_parameter")
        refused += 1
    assert refused >= len(SAMPLES) - 3


@pytest.mark.parametrize("field", sorted(HARMLESS))
def test_a_harmless_field_changes_nothing(field: str) -> None:
    for value in (*SAMPLES, None):
        assert asked(**{field: value}) == asked()


def test_numbers_and_truth_are_not_mixed_up() -> None:
    assert asked(n=1, frequency_penalty=0.0, top_k=-1, repetition_penalty=1.0) == asked()
    for field, value in (("n", True), ("frequency_penalty", False), ("echo", 0), ("min_p", "0")):
        assert refusal(**{field: value}).param == field


@pytest.mark.parametrize(
    "field", ["nonsense", "Temperature", "temperature ", "top-p", "\x1b[2J", "x" * 5000]
)
def test_an_unknown_field_is_refused_by_name(field: str) -> None:
    error = refusal(**{field: None})
    assert "is not a field that this server knows" in str(error)
    shown = json.dumps(error.body(), ensure_ascii=False)
    assert len(shown) < 500
    assert "\x1b" not in json.loads(shown)["error"]["message"]


@pytest.mark.parametrize("field", sorted(HONOURED - {"model", "messages"}))
def test_null_leaves_an_honoured_field_open(field: str) -> None:
    assert asked(**{field: None}) == asked()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", None),
        ("model", 4),
        ("messages", None),
        ("messages", []),
        ("messages", "hi"),
        ("messages", {}),
        ("stream", "yes"),
        ("stream", 1),
        ("temperature", "0.5"),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", True),
        ("top_p", 0),
        ("seed", 1.5),
        ("seed", -1),
        ("seed", 2**31),
        ("max_tokens", 0),
        ("max_tokens", 10.5),
        ("max_completion_tokens", "10"),
        ("max_completion_tokens", 0),
        ("stop", ""),
        ("stop", [""]),
        ("stop", ["a"] * 5),
        ("stop", [1]),
        ("stream_options", "usage"),
        ("stream_options", {"include_usage": "yes"}),
    ],
)
def test_an_honoured_field_of_another_type_is_named(field: str, value: Any) -> None:
    error = refusal(**{field: value})
    assert (error.param or "").split(".")[0] == field
    assert field in str(error)


# Messages.


def message(**fields: Any) -> RequestError:
    return refusal(messages=[{"role": "user", "content": "hi"}, {"role": "user", **fields}])


@pytest.mark.parametrize("field", [*MESSAGE_NEUTRAL, "unheard_of"])
def test_a_field_of_a_message_is_refused_by_name(field: str) -> None:
    error = message(content="hi", **{field: "Ann"})
    assert error.param == f"messages.1.{field}"
    for value in (None, *MESSAGE_NEUTRAL.get(field, ())):
        if field in MESSAGE_NEUTRAL:
            turn = {"role": "user", "content": "hi", field: value}
            assert asked(messages=[turn]) == asked()


def test_an_answer_of_openais_client_may_be_sent_back() -> None:
    """As its ``model_dump`` gives it: everything it has no value for is null."""
    empty = ("refusal", "annotations", "audio", "function_call", "tool_calls")
    answer = {"role": "assistant", "content": "blue", **dict.fromkeys(empty)}
    question = {"role": "user", "content": "hi"}
    turns = asked(messages=[question, answer, question]).turns()
    assert [turn["content"] for turn in turns] == ["hi", "blue", "hi"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"content": None}, "messages.1.content"),
        ({"content": 4}, "messages.1.content"),
        ({}, "messages.1.content"),
        ({"content": "x", "role": "function"}, "messages.1.role"),
        ({"content": "x", "role": ["user"]}, "messages.1.role"),
        ({"content": "x", "role": None}, "messages.1.role"),
        ({"content": ["x"]}, "messages.1.content.0.type"),
        ({"content": [{"type": "text"}]}, "messages.1.content.0.text"),
        ({"content": [{"type": "text", "text": 4}]}, "messages.1.content.0.text"),
        ({"content": [{"type": "text", "text": "x", "more": 1}]}, "messages.1.content.0.more"),
        (
            {"content": [{"type": "text", "text": "x"}, {"type": "file"}]},
            "messages.1.content.1.type",
        ),
    ],
)
def test_a_message_that_cannot_be_read_names_the_place(fields: dict[str, Any], param: str) -> None:
    error = message(**fields)
    assert error.param == param
    assert str(error).startswith(param.removesuffix(".type"))


@pytest.mark.parametrize(
    "kind", ["image_url", "input_audio", "audio_url", "video_url", "file", "refusal", "input_text"]
)
def test_a_part_that_is_no_text_is_refused_by_its_type(kind: str) -> None:
    error = message(content=[{"type": kind, kind: {"url": "data:x"}}])
    assert f"a part of type '{kind}' is not read by this server" in str(error)


def test_a_message_that_is_no_object_is_named() -> None:
    assert refusal(messages=["hi"]).param == "messages.0"
    assert refusal(messages=[None]).param == "messages.0"


def test_text_parts_are_joined_and_developers_are_the_system() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two", "annotations": []}]
    turns = asked(
        messages=[{"role": "developer", "content": "Be short."}, {"role": "user", "content": parts}]
    ).turns()
    assert turns == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "one two"},
    ]


# Bodies.


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"null", "must be a JSON object"),
        (b"[]", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"model": "\xff"}', "not UTF-8"),
        (b'{"model": "m", "model": "n"}', "the key 'model' is given twice"),
        (b'{"messages": [{"role": "user", "role": "system"}]}', "the key 'role' is given twice"),
        (b'{"temperature": NaN}', "not finite"),
        (b'{"temperature": 1e999}', "not finite"),
        (b'{"temperature": -Infinity}', "not finite"),
        (b'{"model": "\\ud800"}', "half of a surrogate pair"),
        (b'{"\\udfff": 1}', "half of a surrogate pair"),
        (b'{"seed": ' + b"1" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 50_000, "nested too deeply"),
        (b'{"model": "m"} {}', "not JSON"),
    ],
)
def test_a_body_that_is_no_plain_json(body: bytes, wanted: str) -> None:
    with pytest.raises(RequestError) as caught:
        ChatRequest.read(body)
    assert caught.value.status == 400
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_whole_surrogate_pair_is_a_character() -> None:
    body = b'{"model": "m", "messages": [{"role": "user", "content": "\\ud83d\\ude42"}]}'
    assert ChatRequest.read(body).turns()[0]["content"] == "\U0001f642"
