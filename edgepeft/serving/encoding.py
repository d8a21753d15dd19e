"""Vectors and rankings over HTTP: one bundle of an encoder, which is one model."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import anyio.to_thread
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from edgepeft.errors import InputError
from edgepeft.models.tasks import CLASSIFICATION, EMBEDDING, MULTI_LABEL, RANKING
from edgepeft.runtime.encoder import Encoder
from edgepeft.runtime.pooling import Array
from edgepeft.serving.endpoint import EMBEDDINGS, RERANK, Endpoint, Handler
from edgepeft.serving.limits import Limits, read_body
from edgepeft.serving.refusals import RequestError
from edgepeft.serving.text_requests import EmbeddingRequest, RerankRequest

Found = TypeVar("Found")
Made = TypeVar("Made")
Texts = tuple[str, str | None]
"""A text, and the second one that is read with it, if any."""


class EncoderEndpoint(Endpoint):
    """The handlers of one loaded bundle of an encoder that makes vectors or ranks."""

    def __init__(self, encoder: Encoder, limits: Limits, relevant: str | None = None) -> None:
        """``relevant`` is the label of a classifier of two texts whose probability counts as relevance.

        Raises InputError for a bundle that no endpoint answers with, and for a label that is none of its.
        """
        super().__init__(encoder.bundle, limits)
        self._encoder = encoder
        self._relevant = relevant
        self.asked = self._handlers(relevant)
        self._width = len(encoder.embed("a text")) if self.bundle.task == EMBEDDING else 0

    def names(self) -> list[str]:
        """The bundle's target."""
        return [self.bundle.target]

    async def embeddings(self, request: Request) -> Response:
        """``POST /v1/embeddings``."""
        asked = EmbeddingRequest.read(await read_body(request, self.limits))
        name = self.known(asked.model)
        if asked.dimensions not in (None, self._width):
            raise RequestError(
                400,
                f"dimensions: this model's vectors have {self._width} numbers, and nothing says that fewer of "
                "them mean anything; leave it out",
                param="dimensions",
            )
        texts: list[Texts] = [(text, None) for text in asked.input]
        many = len(texts) > 1
        places = [f"input.{at}" if many else "input" for at in range(len(texts))]
        vectors, usage = await self._read(
            request, texts, places, asked.truncate, lambda text, _: self._encoder.embed(text)
        )

        def body() -> dict[str, Any]:
            data = [
                {
                    "object": "embedding",
                    "index": at,
                    "embedding": _written(vector, asked.encoding_format),
                }
                for at, vector in enumerate(vectors)
            ]
            return {"object": "list", "data": data, "model": name, "usage": usage}

        return await self.written(body)

    async def rerank(self, request: Request) -> Response:
        """``POST /v1/rerank``."""
        asked = RerankRequest.read(await read_body(request, self.limits))
        name = self.known(asked.model)
        texts: list[Texts] = [(asked.query, document) for document in asked.documents]
        places = [f"documents.{at}" for at in range(len(texts))]
        scores, usage = await self._read(request, texts, places, asked.truncate, self._relevance)
        # Of documents that are as relevant the first given stands first.
        order = sorted(range(len(scores)), key=lambda at: -scores[at])[: asked.top_n]
        results = [
            {
                "index": at,
                "relevance_score": scores[at],
                **({"document": {"text": asked.documents[at]}} if asked.return_documents else {}),
            }
            for at in order
        ]
        head = {"id": f"rerank-{uuid.uuid4().hex}", "object": "list", "model": name}
        return await self.written(lambda: {**head, "results": results, "usage": usage})

    def _handlers(self, relevant: str | None) -> Mapping[str, Handler]:
        task, where = self.bundle.task, self.bundle.path
        if relevant is not None:
            if task not in (CLASSIFICATION, MULTI_LABEL) or not self._encoder.reads_pairs:
                raise InputError(
                    f"--relevant: is for classifiers of two texts, and {where} is none"
                )
            if relevant not in self._encoder.labels:
                raise InputError(
                    f"--relevant: {relevant!r} is none of {where}'s labels: "
                    f"{', '.join(self._encoder.labels)}"
                )
            return {RERANK: self.rerank}
        if task == EMBEDDING:
            return {EMBEDDINGS: self.embeddings}
        if task == RANKING:
            return {RERANK: self.rerank}
        mend = "ask it with `edgepeft run`, or edgepeft.runtime.Encoder in Python"
        if task in (CLASSIFICATION, MULTI_LABEL) and self._encoder.reads_pairs:
            mend = f"name the label that means relevant (--relevant) to have it rank, or {mend}"
        raise InputError(f"{where}: is for {task}, which no endpoint here answers; {mend}")

    def _relevance(self, query: str, document: str | None) -> float:
        if self._relevant is None:
            return self._encoder.score(query, document or "")
        labels = self._encoder.classify(query, document)
        return next(label.score for label in labels if label.label == self._relevant)

    def _counted(self, text: str, second: str | None, place: str, truncate: bool) -> int:
        """How many tokens are read of a text. Raises RequestError for one that is longer than the model reads."""
        encoded = self._encoder.encoded(text, second)
        if encoded.lost and not truncate:
            raise RequestError(
                400,
                f"{place}: is {len(encoded.ids) + encoded.lost} tokens long and the model reads "
                f"{self.bundle.context_length}; shorten it, or ask with truncate: true",
                param=place,
            )
        return len(encoded.ids)

    async def _read(
        self,
        request: Request,
        texts: Sequence[Texts],
        places: Sequence[str],
        truncate: bool,
        make: Callable[[str, str | None], Found],
    ) -> tuple[list[Found], dict[str, int]]:
        """What the model makes of each text, one after another, and the usage; in a turn of its own."""
        deadline, tokens = self.deadline(), 0
        found: list[Found] = []
        async with self.turn(request, deadline):
            # All of them before the first is read, so that nothing is computed in vain.
            for (text, second), place in zip(texts, places, strict=True):
                await self.require_wanted(request, deadline)
                tokens += await self._in_thread(self._counted, text, second, place, truncate)
            self.metrics.read.inc(tokens)
            for (text, second), place in zip(texts, places, strict=True):
                await self.require_wanted(request, deadline)
                try:
                    found.append(await self._in_thread(make, text, second))
                except InputError as error:
                    raise RequestError(400, f"{place}: {error}", param=place) from None
        return found, {"prompt_tokens": tokens, "total_tokens": tokens}

    async def _in_thread(self, work: Callable[..., Made], *given: Any) -> Made:
        return await anyio.to_thread.run_sync(work, *given, limiter=self.threads)


def _written(vector: Array, form: str) -> Any:
    if form == "float":
        return vector.tolist()
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()
