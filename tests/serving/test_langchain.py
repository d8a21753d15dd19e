"""LangChain's models against the server, as those who use it write them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from edgepeft.runtime import Encoder, Runtime
from tests.runtime.fabricate import write_encoder_bundle
from tests.serving.test_serve import Server, served

langchain = pytest.importorskip("langchain_openai")
langchain_core = pytest.importorskip("langchain_core.messages")

PROMPT = "What is the colour of grass?"


class Lamp(BaseModel):
    """What a lamp should do."""

    room: Literal["kitchen", "hall"]
    on: bool


def _running(folder: Path, *options: object) -> Iterator[Server]:
    with served(folder, *options) as running:
        yield running


@pytest.fixture(scope="module")
def server(tiny_bundle: Path) -> Iterator[Server]:
    yield from _running(tiny_bundle, "--max-tokens", 400)


@pytest.fixture(scope="module")
def runtime(tiny_bundle: Path) -> Runtime:
    return Runtime(tiny_bundle, threads=1)


def chat(server: Server, **more: Any) -> Any:
    address = f"http://{server.host}/v1"
    return langchain.ChatOpenAI(
        model="cpu-int4", base_url=address, api_key="none", max_retries=0, **more
    )


def test_answers_whole_streamed_and_in_a_batch(server: Server, runtime: Runtime) -> None:
    model = chat(server, max_completion_tokens=12, temperature=0)
    wanted = runtime.complete(PROMPT, max_new_tokens=12)
    done = model.invoke(PROMPT)
    assert done.content == wanted.text
    assert done.usage_metadata["output_tokens"] == 12
    assert "".join(chunk.content for chunk in model.stream(PROMPT)) == wanted.text
    told = [("system", "Be brief."), ("human", PROMPT), ("ai", "green"), ("human", "And snow?")]
    both = model.batch([told, PROMPT])
    assert both[1].content == wanted.text
    turns: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": PROMPT},
        {"role": "assistant", "content": "green"},
        {"role": "user", "content": "And snow?"},
    ]
    assert both[0].content == runtime.complete(turns, max_new_tokens=12).text


def test_log_probabilities_and_several_answers(server: Server, runtime: Runtime) -> None:
    model = chat(server, max_completion_tokens=8, logprobs=True, top_logprobs=2, temperature=0)
    found = model.invoke(PROMPT).response_metadata["logprobs"]["content"]
    wanted = runtime.complete(PROMPT, max_new_tokens=8, logprobs=2).logprobs
    assert [one["logprob"] for one in found] == pytest.approx([one.logprob for one in wanted])
    assert all(len(one["top_logprobs"]) == 2 for one in found)
    asked = langchain_core.HumanMessage(PROMPT)
    several = chat(server, max_completion_tokens=8, n=3, temperature=1.5, seed=5)
    answers = [one.text for one in several.generate([[asked]]).generations[0]]
    assert len(set(answers)) == 3


def test_answers_of_a_declared_form(server: Server) -> None:
    pytest.importorskip("llguidance")
    model = chat(server, temperature=0).with_structured_output(Lamp, method="json_schema")
    assert isinstance(model.invoke(PROMPT), Lamp)


def test_vectors(tmp_path: Path) -> None:
    pooling = {"mode": "mean", "normalize": True}
    folder = write_encoder_bundle(tmp_path / "b", "feature-extraction", 16, pooling=pooling)
    encoder = Encoder(folder, threads=1)
    for running in _running(folder):
        address = f"http://{running.host}/v1"
        more = {"model": "cpu-fp32", "base_url": address, "api_key": "none", "max_retries": 0}
        model = langchain.OpenAIEmbeddings(check_embedding_ctx_length=False, **more)
        found = model.embed_documents(["the sun", "a lemon"])
        assert found[1] == pytest.approx(encoder.embed("a lemon").tolist(), abs=1e-6)
        assert model.embed_query("the sun") == pytest.approx(found[0])
