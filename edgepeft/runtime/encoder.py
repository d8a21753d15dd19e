"""Encoders on the device: labels of a text, labelled spans in it, scores or vectors, by plain onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepeft.bundle.files import AGAIN
from edgepeft.bundle.manifest import MANIFEST
from edgepeft.data.control_tokens import policy_of
from edgepeft.data.texts import EncodedText, TextEncoder, words_in
from edgepeft.errors import InputError
from edgepeft.models.scoring import Scoring
from edgepeft.models.tasks import (
    CLASSIFICATION,
    EMBEDDING,
    ENCODER_TASKS,
    GENERATION,
    MULTI_LABEL,
    RANKING,
    TAGGING,
)
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.pooling import Array, Pooler, sigmoid
from edgepeft.runtime.providers import provider_name
from edgepeft.runtime.sessions import (
    Provider,
    as_float32,
    check_ids,
    open_session,
    run_session,
    session_entries,
)

_TYPES = "token_type_ids"


@dataclass(frozen=True)
class Label:
    """A label of a text with its probability."""

    label: str
    score: float


@dataclass(frozen=True)
class Ranked:
    """A passage with its score, and where it stood among those given."""

    index: int
    text: str
    score: float


@dataclass(frozen=True)
class TaggedSpan:
    """Words that belong together: their label, their text, its place in characters, the mean probability."""

    label: str
    text: str
    start: int
    end: int
    score: float


class EncoderSession:
    """One onnxruntime session over an encoder's graph; ``width`` is that of its output, labels or features."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int | None = None,
        providers: Sequence[Provider] | None = None,
    ) -> None:
        """Load a bundle's graph; ``providers`` and errors as for ``GraphSession``."""
        if bundle.task not in ENCODER_TASKS:
            raise InputError(f"{bundle.path}: generates text; open it with Runtime")
        self.model_file = bundle.model_file
        self.vocab_size = bundle.vocab_size
        self._output = ENCODER_TASKS[bundle.task].output
        self._session = open_session(
            bundle.model_file, threads, providers or [bundle.provider], session_entries(bundle)
        )
        self.provider: str = self._session.get_providers()[0]
        names = {node.name for node in self._session.get_inputs()}
        outputs = {node.name: node for node in self._session.get_outputs()}
        self._typed = _TYPES in names
        if names - {_TYPES} != {"input_ids", "attention_mask"} or self._output not in outputs:
            raise InputError(f"{self.model_file}: not an encoder's graph edgepeft can feed")
        self.width = outputs[self._output].shape[-1]

    def run(self, ids: Sequence[int], types: Sequence[int] | None = None) -> Array:
        """The graph's output for one text: logits float32 [C] or [T, C], or token vectors [T, H].

        ``types`` tell the tokens of two texts apart for a graph that is told; None: all are of the first.
        """
        import onnxruntime as ort

        check_ids(self.model_file, ids, self.vocab_size)
        arrays = {
            "input_ids": np.asarray([ids], np.int64),
            "attention_mask": np.ones((1, len(ids)), np.int64),
        }
        if self._typed:
            arrays[_TYPES] = np.asarray([types or [0] * len(ids)], np.int64)
        feed = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
        (value,) = run_session(self._session, self.model_file, [self._output], feed)
        output: Array = as_float32(value)[0]
        return output


class Encoder:
    """A loaded bundle of an encoder; ``bundle`` says what it is for."""

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        threads: int | None = None,
        provider: str | None = None,
    ) -> None:
        """Load ``bundle``; a path is opened with all its checks.

        ``provider`` overrides the execution provider the bundle was built for ("CPUExecutionProvider" or "cpu").
        Raises InputError for a bundle that generates text, and as ``GraphSession`` does.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        if self.bundle.task == GENERATION:
            raise InputError(f"{self.bundle.path}: generates text; open it with Runtime")
        providers = None if provider is None else [provider_name(provider)]
        self._session = EncoderSession(self.bundle, threads=threads, providers=providers)
        result, where = self.bundle.manifest["result"], self.bundle.path / MANIFEST
        self._texts = TextEncoder(self.bundle.path, self.bundle.context_length, policy_of(result))
        labels = result.get("labels") or []
        named = ENCODER_TASKS[self.bundle.task].labelled
        if named and len(labels) != self._session.width:
            raise InputError(
                f"{where}: result.labels has {len(labels)} labels and the graph {self._session.width}; {AGAIN}"
            )
        self._labels: list[str] = labels
        self.reads_pairs = bool(result.get("paired", False))
        self._scoring = Scoring(**(result.get("scoring") or {}))
        embeds = self.bundle.task == EMBEDDING
        self._pooler = Pooler.of_bundle(self.bundle) if embeds else None

    def classify(self, text: str, pair: str | None = None) -> list[Label]:
        """Every label with its probability, the likeliest first; ``pair`` is the second text where two are read
        together. Of several labels at once each has a probability of its own.

        Raises InputError where that isn't the task, and for a second text that is missing or not wanted.
        """
        encoded = self._read(text, CLASSIFICATION, MULTI_LABEL, pair=pair)
        logits = self._session.run(encoded.ids, encoded.types)
        scores = sigmoid(logits) if self.bundle.task == MULTI_LABEL else _softmax(logits)
        found = [Label(name, float(s)) for name, s in zip(self._labels, scores, strict=True)]
        return sorted(found, key=lambda label: -label.score)

    def score(self, query: str, passage: str) -> float:
        """How well a passage answers a query. Raises InputError where that isn't the task."""
        encoded = self._read(query, RANKING, pair=passage)
        number = self._session.run(encoded.ids, encoded.types)
        return float((sigmoid(number) if self._scoring.activation == "sigmoid" else number)[0])

    def rank(self, query: str, passages: Sequence[str]) -> list[Ranked]:
        """Passages with their scores for a query, the best first. Raises InputError as ``score`` does."""
        found = [
            Ranked(index, passage, self.score(query, passage))
            for index, passage in enumerate(passages)
        ]
        return sorted(found, key=lambda one: -one.score)

    def spans(self, text: str) -> list[TaggedSpan]:
        """The labelled spans of a text, in its order. Raises InputError where that isn't the task."""
        encoded = self._read(text, TAGGING)
        scores = _softmax(self._session.run(encoded.ids))
        words = words_in(text)
        tagged = [
            (place, self._labels[int(scores[at].argmax())], float(scores[at].max()))
            for place, at in zip(words, encoded.first_tokens(words), strict=True)
            if at is not None
        ]
        return [
            TaggedSpan(
                label,
                text[tagged[start][0][0] : tagged[end - 1][0][1]],
                tagged[start][0][0],
                tagged[end - 1][0][1],
                sum(score for *_, score in tagged[start:end]) / (end - start),
            )
            for label, start, end in group_tags([tag for _, tag, _ in tagged])
        ]

    def embed(self, text: str) -> Array:
        """The vector of a text, float32 [H]. Raises InputError where that isn't the task."""
        vectors = self._session.run(self._read(text, EMBEDDING).ids)
        assert self._pooler is not None
        return self._pooler(vectors)

    @property
    def labels(self) -> Sequence[str]:
        """What a classifier or tagger tells apart; nothing where the model has no labels."""
        return self._labels

    def encoded(self, text: str, pair: str | None = None) -> EncodedText:
        """The tokens that are read of a text, or of two."""
        return self._texts.encode(text, pair)

    def tokens_lost(self, text: str, pair: str | None = None) -> int:
        """Tokens of a text, or of two, that are cut off, because the model reads no more at once."""
        return self._texts.encode(text, pair).lost

    def _read(self, text: str, *tasks: str, pair: str | None = None) -> EncodedText:
        if self.bundle.task not in tasks:
            raise InputError(f"{self.bundle.path}: is for {self.bundle.task}, not for {tasks[0]}")
        if self.reads_pairs != (pair is not None):
            mend = "give a second one" if self.reads_pairs else "leave out the second one"
            many = "two texts together" if self.reads_pairs else "single texts"
            raise InputError(f"{self.bundle.path}: reads {many}; {mend}")
        for name, one in (("text", text), ("pair", pair)):
            if one is not None and not one.strip():
                raise InputError(f"{name}: is empty; give one or more words")
        return self._texts.encode(text, pair)


def group_tags(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Spans (label, first word, word behind the last) of a text's tags.

    Tags are ``O`` for none, and ``B-x`` and ``I-x`` (a span's first and further words; an ``I-`` that continues
    nothing begins one, as in conlleval) or plain ``x``, where neighbours alike are one span.
    """
    spans: list[tuple[str, int, int]] = []
    for index, tag in enumerate(tags):
        if tag == "O":
            continue
        begins = tag.startswith("B-")
        label = tag[2:] if tag[:2] in ("B-", "I-") else tag
        last = spans[-1] if spans else None
        if last is not None and last[0] == label and last[2] == index and not begins:
            spans[-1] = (label, last[1], index + 1)
        else:
            spans.append((label, index, index + 1))
    return spans


def _softmax(logits: Array) -> Array:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return scores
