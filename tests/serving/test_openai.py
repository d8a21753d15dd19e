"""OpenAI's own client against the server: answers with their log-probabilities, several at once, raw prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edgepeft.data.token_text import TokenTexts
from edgepeft.runtime import Runtime
from edgepeft.runtime.logprobs import TokenLogprob
from tests.serving.test_serve import WAYS, Server, served

openai = pytest.importorskip("openai")

MODEL = "cpu-int4"
PROMPT = "What is the colour of grass?"
ASKED: list[Any] = [{"role": "user", "content": PROMPT}]
ROOM = 12


@pytest.fixture(scope="module", params=WAYS)
def server(tiny_bundle: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    with served(tiny_bundle, "--max-tokens", 48, *WAYS[request.param]) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Any:
    return openai.OpenAI(base_url=f"http://{server.host}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def runtime(tiny_bundle: Path) -> Runtime:
    return Runtime(tiny_bundle, threads=1)


@pytest.fixture(scope="module")
def texts(runtime: Runtime) -> TokenTexts:
    return TokenTexts(runtime.prompter.tokenizer)


def close(nats: float) -> Any:
    """Batches of int4 products round unlike the same alone."""
    return pytest.approx(nats, abs=1e-3)


def hold(content: Any, wanted: list[TokenLogprob], texts: TokenTexts, top: int) -> None:
    """Hold a chat's log-probabilities against the runtime's."""
    assert len(content) == len(wanted) > 0
    for entry, token in zip(content, wanted, strict=True):
        assert (entry.token, entry.logprob) == (texts.text(token.id), close(token.logprob))
        assert entry.bytes == list(texts.bytes_of(token.id) or b"")
        assert len(entry.top_logprobs) == top
        for found, (at, nats) in zip(entry.top_logprobs, token.top, strict=True):
            assert (found.token, found.logprob) == (texts.text(at), close(nats))


# Chats.


@pytest.mark.parametrize("top", [0, 3, 20])
def test_a_chats_log_probabilities(
    client: Any, runtime: Runtime, texts: TokenTexts, top: int
) -> None:
    wanted = runtime.complete(PROMPT, max_new_tokens=ROOM, logprobs=top)
    done = client.chat.completions.create(
        model=MODEL, messages=ASKED, max_tokens=ROOM, logprobs=True, top_logprobs=top
    )
    assert done.choices[0].message.content == wanted.text
    hold(done.choices[0].logprobs.content, wanted.logprobs, texts, top)
    without = client.chat.completions.create(model=MODEL, messages=ASKED, max_tokens=ROOM)
    assert without.choices[0].logprobs is None
    assert without.choices[0].message.content == wanted.text


def test_they_are_streamed_with_their_text(
    client: Any, runtime: Runtime, texts: TokenTexts
) -> None:
    wanted = runtime.complete(PROMPT, max_new_tokens=ROOM, logprobs=2)
    content: list[Any] = []
    text = ""
    for chunk in client.chat.completions.create(
        model=MODEL,
        messages=ASKED,
        max_tokens=ROOM,
        stream=True,
        logprobs=True,
        top_logprobs=2,
        stream_options={"include_usage": True},
    ):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            found = choice.logprobs.content if choice.logprobs else []
            content += found
            # A chunk's tokens say its text, but where a character is not yet whole.
            if (choice.delta.content or "").isascii():
                assert "".join(entry.token for entry in found) == (choice.delta.content or "")
        usage = chunk.usage
    assert text == wanted.text
    hold(content, wanted.logprobs, texts, 2)
    assert usage.completion_tokens == len(wanted.ids)


def test_several_answers_to_one_request(client: Any, runtime: Runtime) -> None:
    fields: dict[str, Any] = {"temperature": 1.5, "seed": 7}
    done = client.chat.completions.create(
        model=MODEL, messages=ASKED, max_tokens=ROOM, n=3, **fields
    )
    again = client.chat.completions.create(
        model=MODEL, messages=ASKED, max_tokens=ROOM, n=2, **fields
    )
    answers = [choice.message.content for choice in done.choices]
    assert [choice.index for choice in done.choices] == [0, 1, 2]
    assert len(set(answers)) == 3
    assert [choice.message.content for choice in again.choices] == answers[:2]
    prompt = len(runtime.prompter.prompt(ASKED))
    assert done.usage.prompt_tokens == prompt
    assert done.usage.completion_tokens == 3 * ROOM
    greedy = client.chat.completions.create(model=MODEL, messages=ASKED, max_tokens=ROOM, n=2)
    assert {choice.message.content for choice in greedy.choices} == {
        runtime.complete(PROMPT, max_new_tokens=ROOM).text
    }


def test_what_is_added_to_logits(client: Any, runtime: Runtime) -> None:
    wanted = {
        "frequency_penalty": runtime.complete(
            PROMPT, max_new_tokens=ROOM, frequency_penalty=2.0
        ).text,
        "presence_penalty": runtime.complete(
            PROMPT, max_new_tokens=ROOM, presence_penalty=2.0
        ).text,
        "logit_bias": runtime.complete(PROMPT, max_new_tokens=ROOM, logit_bias={70: 100.0}).text,
    }
    sent = {"frequency_penalty": 2, "presence_penalty": 2.0, "logit_bias": {"70": 100}}
    for name, value in sent.items():
        done = client.chat.completions.create(
            model=MODEL, messages=ASKED, max_tokens=ROOM, **{name: value}
        )
        assert done.choices[0].message.content == wanted[name]
    penalty = runtime.complete(PROMPT, max_new_tokens=ROOM, repetition_penalty=1.5).text
    done = client.chat.completions.create(
        model=MODEL, messages=ASKED, max_tokens=ROOM, extra_body={"repetition_penalty": 1.5}
    )
    assert done.choices[0].message.content == penalty


# Raw prompts.


def test_a_raw_prompt_is_read_as_it_stands(
    client: Any, runtime: Runtime, texts: TokenTexts
) -> None:
    ids = runtime.prompter.text(PROMPT)
    sampling = {"max_new_tokens": ROOM, "logprobs": 2}
    wanted = _stream_ids(runtime, ids, **sampling)
    done = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=ROOM, logprobs=2)
    assert done.object == "text_completion"
    (choice,) = done.choices
    assert choice.text == wanted.text != runtime.complete(PROMPT, max_new_tokens=ROOM).text
    assert done.usage.prompt_tokens == len(ids)
    found = choice.logprobs
    assert found.tokens == [texts.text(token.id) for token in wanted.logprobs]
    assert found.token_logprobs == [close(token.logprob) for token in wanted.logprobs]
    for top, token in zip(found.top_logprobs, wanted.logprobs, strict=True):
        for at, nats in (*token.top, (token.id, token.logprob)):
            assert top[texts.text(at)] == close(nats)
        assert len(top) in (2, 3)
    assert found.text_offset[0] == 0
    assert found.text_offset == sorted(found.text_offset)
    for token, at in zip(found.tokens, found.text_offset, strict=True):
        assert token.startswith("bytes:") or choice.text[at:].startswith(token)


def _stream_ids(runtime: Runtime, ids: list[int], **fields: Any) -> Any:
    from edgepeft.runtime import SamplingParams

    stream = runtime.stream_ids(ids, SamplingParams(**fields))
    for _ in stream:
        pass
    return stream.completion()


def test_prompts_of_token_ids_and_several_at_once(client: Any, runtime: Runtime) -> None:
    ids = [runtime.prompter.text(text) for text in (PROMPT, "Turn on")]
    wanted = [_stream_ids(runtime, each, max_new_tokens=4).text for each in ids]
    for prompt, texts in (
        (ids[0], wanted[:1]),
        (ids, wanted),
        ([PROMPT, "Turn on"], wanted),
        ([PROMPT, ids[1]], wanted),
    ):
        done = client.completions.create(model=MODEL, prompt=prompt, max_tokens=4)
        assert [choice.text for choice in done.choices] == texts
        assert [choice.index for choice in done.choices] == list(range(len(texts)))
    whole: dict[str, Any] = {"n": 1.0, "top_k": 0.0, "logit_bias": []}
    again = client.completions.create(model=MODEL, prompt=ids[0], max_tokens=4.0, extra_body=whole)
    assert again.choices[0].text == wanted[0]
    both = client.completions.create(
        model=MODEL, prompt=[PROMPT, "Turn on"], max_tokens=4, n=2, temperature=1.0, seed=3
    )
    assert len(both.choices) == 4
    assert both.usage.prompt_tokens == sum(map(len, ids))


def test_a_raw_prompts_answer_is_streamed(client: Any, runtime: Runtime) -> None:
    wanted = _stream_ids(runtime, runtime.prompter.text(PROMPT), max_new_tokens=ROOM, logprobs=0)
    text, tokens, offsets, reason = "", [], [], None
    for chunk in client.completions.create(
        model=MODEL, prompt=PROMPT, max_tokens=ROOM, stream=True, logprobs=0
    ):
        (choice,) = chunk.choices
        text += choice.text
        reason = choice.finish_reason
        if choice.logprobs:
            tokens += choice.logprobs.token_logprobs
            offsets += choice.logprobs.text_offset
    assert (text, reason) == (wanted.text, "length")
    assert tokens == [close(token.logprob) for token in wanted.logprobs]
    assert offsets == sorted(offsets)
    stop = wanted.text[4:7]
    done = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=ROOM, stop=stop)
    assert done.choices[0].text == wanted.text[: wanted.text.index(stop)]
    assert done.choices[0].finish_reason == "stop"


def test_many_clients_get_what_each_gets_alone(client: Any) -> None:
    """Log-probabilities, penalties, seeds, raw prompts and refusals at once, to the last bit."""
    pytest.importorskip("llguidance")
    asked: list[tuple[Any, dict[str, Any]]] = [
        (client.chat.completions, {"logprobs": True, "top_logprobs": 3}),
        (client.chat.completions, {"logprobs": True, "frequency_penalty": 1.5}),
        (client.chat.completions, {"temperature": 1.2, "seed": 3, "n": 2}),
        (client.chat.completions, {"logit_bias": {"70": 20}}),
        (client.chat.completions, {"logprobs": True, "response_format": {"type": "json_object"}}),
        (client.completions, {"logprobs": 2}),
        (client.completions, {"presence_penalty": 1.0, "n": 2}),
        (client.chat.completions, {"n": 99}),
    ]

    def ask(which: int) -> Any:
        api, more = asked[which]
        prompt = {"prompt": PROMPT} if api is client.completions else {"messages": ASKED}
        try:
            done = api.create(model=MODEL, max_tokens=16, **prompt, **more)
        except openai.BadRequestError as error:
            return error.body["message"]
        return [choice.model_dump() for choice in done.choices]

    alone = [ask(which) for which in range(len(asked))]
    order = [at % len(asked) for at in range(4 * len(asked))]
    with ThreadPoolExecutor(len(order)) as clients:
        assert list(clients.map(ask, order)) == [alone[which] for which in order]


# What is refused.


def _chat(client: Any) -> Callable[..., Any]:
    return lambda **more: client.chat.completions.create(
        **{"model": MODEL, "messages": ASKED, **more}
    )


def _raw(client: Any) -> Callable[..., Any]:
    return lambda **more: client.completions.create(**{"model": MODEL, "prompt": "x", **more})


@pytest.mark.parametrize(
    ("ask", "more", "param", "said"),
    [
        (_chat, {"stream": True, "n": 2}, "n", "a streamed answer comes alone"),
        (_chat, {"logprobs": True, "top_logprobs": 21}, "top_logprobs", "from 0 to 20, not 21"),
        (_chat, {"top_logprobs": 2}, "top_logprobs", "goes with logprobs: true"),
        (_chat, {"n": 17}, "n", "less than or equal to 16"),
        (_chat, {"n": 0}, "n", "greater than or equal to 1"),
        (_chat, {"frequency_penalty": 2.5}, "frequency_penalty", "from -2 to 2"),
        (_chat, {"presence_penalty": -3}, "presence_penalty", "from -2 to 2"),
        (_chat, {"logit_bias": {"hello": 1}}, "logit_bias", "'hello' is not a token id"),
        (_chat, {"logit_bias": {"5": 101}}, "logit_bias", "from -100 to 100"),
        (_chat, {"logit_bias": {"9000": 1}}, "logit_bias", "has the token id 9000"),
        (_chat, {"seed": -1}, "seed", "from 0 to"),
        (_chat, {"extra_body": {"top_k": -2}}, "top_k", "0 (any token) or more"),
        (
            _chat,
            {"extra_body": {"repetition_penalty": 1e300}},
            "repetition_penalty",
            "equal to 100",
        ),
        (_chat, {"extra_body": {"min_p": 0.1}}, "min_p", "is not supported"),
        (_raw, {"stream": True, "n": 2}, "n", "a streamed answer comes alone"),
        (_raw, {"stream": True, "prompt": ["a", "b"]}, "prompt", "a streamed answer comes alone"),
        (_raw, {"logprobs": 21}, "logprobs", "from 0 to 20, not 21"),
        (_raw, {"logprobs": True}, "logprobs", "valid integer"),
        (_raw, {"echo": True}, "echo", "is not supported"),
        (_raw, {"suffix": "end"}, "suffix", "is not supported"),
        (_raw, {"best_of": 2}, "best_of", "is not supported"),
        (_raw, {"prompt": ["a"] * 9, "n": 2}, "prompt", "more than the 16 answers"),
        (_raw, {"prompt": []}, "prompt", "at least 1 item"),
        (_raw, {"prompt": [[]]}, "prompt.0", "a text or token ids"),
        (_raw, {"prompt": [1, "x"]}, "prompt.0", "a text or token ids"),
        (_raw, {"prompt": [5, 99999]}, "prompt", "token ids below 512"),
        (_raw, {"prompt": [-1]}, "prompt", "token ids below 512"),
        (_raw, {"prompt": "word " * 600}, "prompt", "no room for an answer"),
        (_raw, {"prompt": ["a", "word " * 600]}, "prompt.1", "no room for an answer"),
        (_raw, {"extra_body": {"messages": ASKED}}, "messages", "is not supported"),
        (
            _raw,
            {"extra_body": {"response_format": {"type": "json_object"}}},
            "response_format",
            "is not supported",
        ),
    ],
)
def test_what_cannot_be_honoured_is_one_line_with_the_fields_name(
    client: Any, ask: Any, more: dict[str, Any], param: str | None, said: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client)(**more)
    error = caught.value.body
    assert said in error["message"]
    assert "\n" not in error["message"]
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert _raw(client)(max_tokens=1).usage.completion_tokens == 1


@pytest.mark.parametrize("ask", ["embeddings", "rerank"])
def test_what_other_bundles_answer_is_told(client: Any, server: Server, ask: str) -> None:
    if ask == "embeddings":
        with pytest.raises(openai.NotFoundError) as caught:
            client.embeddings.create(model=MODEL, input="hi")
        said = caught.value.body["message"]
    else:
        status, said = server.request("POST", "/v1/rerank", {"query": "a", "documents": ["b"]})
        assert status == 404
    assert "is for text-generation and answers POST /v1/chat/completions" in said
