"""Encoders over HTTP: vectors for OpenAI's own client, rankings in Cohere's and Jina's form, what is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepeft.cli import serve
from edgepeft.errors import InputError
from edgepeft.runtime import Encoder
from tests.runtime.fabricate import write_encoder_bundle
from tests.serving.test_serve import Server, serving

openai = pytest.importorskip("openai")

MODEL = "cpu-fp32"
TEXTS = ["What is the colour of a lemon?", "the sun sets", "Grass; snow, coal.", "sets sun the"]
QUERY = "What is the colour of grass?"
LONG = "lemon " * 80
"""Longer than the 64 tokens that the bundles read."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    pairs: dict[str, Any] = {"labels": ["unrelated", "relevant", "odd"], "paired": True}
    pooling = {"mode": "mean", "normalize": True}
    return {
        "vectors": write_encoder_bundle(
            root / "vectors", "feature-extraction", 16, pooling=pooling
        ),
        "ranker": write_encoder_bundle(root / "ranker", "text-ranking", 1, paired=True),
        "pairs": write_encoder_bundle(root / "pairs", "text-classification", 3, **pairs),
        "labels": write_encoder_bundle(
            root / "labels", "text-classification", 2, labels=["a", "b"]
        ),
        "tags": write_encoder_bundle(root / "tags", "token-classification", 2, labels=["O", "B-x"]),
    }


def _running(folder: Path, *options: object) -> Iterator[Server]:
    running = serving(folder, *options)
    yield running
    running.process.terminate()
    _, errors = running.process.communicate(timeout=30)
    assert "Traceback" not in errors, errors


@pytest.fixture(scope="module")
def vectors(folders: dict[str, Path]) -> Iterator[Server]:
    yield from _running(folders["vectors"])


@pytest.fixture(scope="module")
def ranker(folders: dict[str, Path]) -> Iterator[Server]:
    yield from _running(folders["ranker"])


@pytest.fixture(scope="module")
def client(vectors: Server) -> Any:
    return openai.OpenAI(base_url=f"http://{vectors.host}/v1", api_key="none", max_retries=0)


# Vectors.


@pytest.mark.parametrize("form", ["float", "base64", None])
def test_vectors_are_the_encoders_own(client: Any, folders: dict[str, Path], form: Any) -> None:
    """Without a format OpenAI's client asks for base64 and decodes it."""
    encoder = Encoder(folders["vectors"], threads=1)
    more = {} if form is None else {"encoding_format": form}
    done = client.embeddings.create(model=MODEL, input=TEXTS, **more)
    assert [one.index for one in done.data] == [0, 1, 2, 3]
    for one, text in zip(done.data, TEXTS, strict=True):
        found = one.embedding
        if form == "base64":
            found = np.frombuffer(base64.b64decode(found), "<f4").tolist()
        assert found == pytest.approx(encoder.embed(text).tolist(), abs=1e-6)
    # The order of words counts, and so do their tokens.
    assert done.data[1].embedding != done.data[3].embedding
    tokens = sum(len(encoder.encoded(text).ids) for text in TEXTS)
    assert (done.usage.prompt_tokens, done.usage.total_tokens) == (tokens, tokens)


def test_one_text_and_many_clients(client: Any) -> None:
    alone = client.embeddings.create(model=MODEL, input=TEXTS[0], dimensions=16)
    assert len(alone.data) == 1

    def ask(_: int) -> Any:
        return client.embeddings.create(model=MODEL, input=TEXTS[0]).data[0].embedding

    with ThreadPoolExecutor(12) as clients:
        assert all(found == alone.data[0].embedding for found in clients.map(ask, range(24)))


def test_a_text_that_is_too_long_is_cut_where_that_is_asked_for(
    client: Any, folders: dict[str, Path]
) -> None:
    encoder = Encoder(folders["vectors"], threads=1)
    done = client.embeddings.create(model=MODEL, input=[LONG], extra_body={"truncate": True})
    assert done.data[0].embedding == pytest.approx(encoder.embed(LONG).tolist(), abs=1e-6)
    assert done.usage.prompt_tokens == 64


@pytest.mark.parametrize(
    ("more", "param", "said"),
    [
        ({"input": []}, "input", "at least 1 item"),
        ({"input": [1, 2, 3]}, "input", "only texts are read here (LangChain: check_embedding"),
        ({"input": [[1, 2], [3]]}, "input", "only texts are read here"),
        ({"input": "  "}, "input", "is empty"),
        ({"input": ["a", ""]}, "input.1", "is empty"),
        ({"input": ["a", LONG]}, "input.1", "is 82 tokens long and the model reads 64"),
        ({"input": {"text": "a"}}, "input", "valid list"),
        ({"dimensions": 8}, "dimensions", "vectors have 16 numbers"),
        ({"dimensions": 0}, "dimensions", "vectors have 16 numbers"),
        ({"encoding_format": "int8"}, "encoding_format", "'float' or 'base64'"),
        ({"extra_body": {"task": "retrieval"}}, "task", "is not supported"),
        ({"extra_body": {"nonsense": 1}}, "nonsense", "not a field that this server knows"),
    ],
)
def test_what_cannot_be_embedded_is_one_line(
    client: Any, more: dict[str, Any], param: str, said: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(**{"model": MODEL, "input": "a", **more})
    error = caught.value.body
    assert said in error["message"]
    assert "\n" not in error["message"]
    assert error["param"] == param
    assert client.embeddings.create(model=MODEL, input="a", user="me").data


def test_an_encoder_answers_no_chat_and_says_what_it_answers(
    client: Any, ranker: Server, vectors: Server
) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
    said = "is for feature-extraction and answers POST /v1/embeddings"
    assert said in caught.value.body["message"]
    with pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model="gpt", input="a")
    assert caught.value.body["code"] == "model_not_found"
    assert [model.id for model in client.models.list()] == [MODEL]
    status, text = ranker.request("POST", "/v1/embeddings", {"model": MODEL, "input": "a"})
    assert status == 404
    assert "is for text-ranking and answers POST /v1/rerank" in text
    assert vectors.request("GET", "/v1/embeddings")[0] == 405


# Rankings.


def rerank(server: Server, **more: Any) -> tuple[int, dict[str, Any]]:
    body = {"model": MODEL, "query": QUERY, "documents": TEXTS, **more}
    status, text = server.request("POST", "/v1/rerank", body)
    return status, json.loads(text)


def test_documents_are_ranked_as_the_encoder_ranks_them(
    ranker: Server, folders: dict[str, Path]
) -> None:
    encoder = Encoder(folders["ranker"], threads=1)
    wanted = encoder.rank(QUERY, TEXTS)
    status, done = rerank(ranker)
    assert status == 200
    assert [one["index"] for one in done["results"]] == [one.index for one in wanted]
    assert [one["relevance_score"] for one in done["results"]] == pytest.approx(
        [one.score for one in wanted], abs=1e-6
    )
    assert set(done["results"][0]) == {"index", "relevance_score"}
    tokens = sum(len(encoder.encoded(QUERY, text).ids) for text in TEXTS)
    assert done["usage"]["total_tokens"] == tokens
    objects = [{"text": text} for text in TEXTS]
    _, top = rerank(ranker, top_n=2, return_documents=True, documents=objects)
    assert [one["index"] for one in top["results"]] == [one.index for one in wanted[:2]]
    assert [one["document"] for one in top["results"]] == [{"text": one.text} for one in wanted[:2]]
    assert len(rerank(ranker, top_n=99)[1]["results"]) == len(TEXTS)


def test_a_classifier_of_two_texts_ranks_by_the_label_that_is_named(
    folders: dict[str, Path],
) -> None:
    encoder = Encoder(folders["pairs"], threads=1)
    scores = [
        next(one.score for one in encoder.classify(QUERY, text) if one.label == "relevant")
        for text in TEXTS
    ]
    for server in _running(folders["pairs"], "--relevant", "relevant"):
        _, done = rerank(server)
        found = {one["index"]: one["relevance_score"] for one in done["results"]}
        assert [found[at] for at in range(4)] == pytest.approx(scores, abs=1e-6)
        assert list(found.values()) == sorted(found.values(), reverse=True)


@pytest.mark.parametrize(
    ("more", "param", "said"),
    [
        ({"documents": []}, "documents", "at least 1 item"),
        ({"documents": ["a", 4]}, "documents.1", "must be a text"),
        ({"documents": [{"text": "a", "title": "b"}]}, "documents.0", "must be a text"),
        ({"documents": ["a", " "]}, "documents.1", "is empty"),
        ({"documents": ["a", LONG]}, "documents.1", "the model reads 64"),
        ({"query": ""}, "query", "is empty"),
        ({"query": None}, "query", "Field required"),
        ({"top_n": 0}, "top_n", "greater than or equal to 1"),
        ({"rank_fields": ["title"]}, "rank_fields", "is not supported"),
        ({"max_tokens_per_doc": 4}, "max_tokens_per_doc", "is not supported"),
    ],
)
def test_what_cannot_be_ranked_is_one_line(
    ranker: Server, more: dict[str, Any], param: str, said: str
) -> None:
    status, done = rerank(ranker, **more)
    assert status == 400
    assert said in done["error"]["message"]
    assert "\n" not in done["error"]["message"]
    assert done["error"]["param"] == param
    assert rerank(ranker, documents=[LONG], truncate=True)[0] == 200


# Bundles that have no endpoint, and options of others.


@pytest.mark.parametrize(
    ("bundle", "options", "said"),
    [
        ("labels", {}, "is for text-classification, which no endpoint here answers"),
        ("tags", {}, "is for token-classification, which no endpoint here answers"),
        ("pairs", {}, "name the label that means relevant (--relevant)"),
        ("pairs", {"relevant": "good"}, "'good' is none of"),
        ("ranker", {"relevant": "good"}, "is for classifiers of two texts"),
        ("vectors", {"batch": 2}, "--batch: "),
        ("vectors", {"free": True}, "--free: "),
        ("ranker", {"adapter_bytes": 5}, "--adapter-bytes: "),
    ],
)
def test_what_cannot_be_served_is_told_when_it_starts(
    folders: dict[str, Path], bundle: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        serve.command(folders[bundle], port=0, **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
