"""Requests that encoders answer: embeddings in OpenAI's form, rankings in Cohere's and Jina's.

Forms: https://platform.openai.com/docs/api-reference/embeddings, https://docs.cohere.com/reference/rerank,
https://jina.ai/reranker. A text that is longer than the model reads is refused, but with ``truncate``, as Jina
and text-embeddings-inference have it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from edgepeft.serving.body import Fields
from edgepeft.serving.fields import EMBEDDING_NEUTRAL, RERANK_NEUTRAL, TEXTS_HARMLESS
from edgepeft.serving.refusals import RequestError

MOST_TEXTS = 2048
"""Texts of one request, as many as OpenAI takes."""


class EmbeddingRequest(Fields):
    """The fields of ``POST /v1/embeddings`` that are honoured; ``read`` makes one."""

    neutral = EMBEDDING_NEUTRAL
    harmless = TEXTS_HARMLESS

    input: list[str] = Field(min_length=1, max_length=MOST_TEXTS)
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    truncate: bool = False

    @classmethod
    def prepared(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """As ``Fields.prepared``."""
        sent = fields.get("input")
        if isinstance(sent, str):
            fields["input"] = [sent]
        elif isinstance(sent, list) and any(isinstance(one, int | list) for one in sent):
            raise RequestError(
                400,
                "input: token ids are mostly another tokenizer's, so only texts are read here "
                "(LangChain: check_embedding_ctx_length=False)",
                param="input",
            )
        return fields


class RerankRequest(Fields):
    """The fields of ``POST /v1/rerank`` that are honoured; ``read`` makes one."""

    neutral = RERANK_NEUTRAL
    harmless = TEXTS_HARMLESS

    query: str
    documents: list[str] = Field(min_length=1, max_length=MOST_TEXTS)
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = False
    truncate: bool = False

    @classmethod
    def prepared(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """As ``Fields.prepared``."""
        if isinstance(sent := fields.get("documents"), list):
            fields["documents"] = [_document(one, f"documents.{at}") for at, one in enumerate(sent)]
        return fields

    def check(self) -> None:
        """As ``Fields.check``."""
        if not self.query.strip():
            raise RequestError(400, "query: is empty; give one or more words", param="query")


def _document(sent: Any, where: str) -> str:
    """A document's text, which may be an object's only field. Raises RequestError."""
    text = sent.get("text") if isinstance(sent, dict) and set(sent) == {"text"} else sent
    if not isinstance(text, str):
        raise RequestError(
            400, f'{where}: must be a text, or an object of "text" alone', param=where
        )
    return text
