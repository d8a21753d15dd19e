"""Encoders on the device: labels of a text, labelled spans in it, or its vector, by plain onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepeft.bundle.files import AGAIN
from edgepeft.bundle.manifest import MANIFEST
from edgepeft.data.control_tokens import policy_of
from edgepeft.data.texts import EncodedText, TextEncoder, words_in
from edgepeft.errors import InputError
from edgepeft.models.tasks import CLASSIFICATION, EMBEDDING, ENCODER_TASKS, GENERATION, TAGGING
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.providers import provider_name
from edgepeft.runtime.sessions import (
    Provider,
    as_float32,
    check_ids,
    open_session,
    run_session,
    session_entries,
)

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Label:
    """A label of a text with its probability."""

    label: str
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
        if names != {"input_ids", "attention_mask"} or self._output not in outputs:
            raise InputError(f"{self.model_file}: not an encoder's graph edgepeft can feed")
        self.width = outputs[self._output].shape[-1]

    def run(self, ids: Sequence[int]) -> Array:
        """The graph's output for one text: logits float32 [C] or [T, C], or token vectors [T, H]."""
        import onnxruntime as ort

        check_ids(self.model_file, ids, self.vocab_size)
        feed = {
            "input_ids": ort.OrtValue.ortvalue_from_numpy(np.asarray([ids], np.int64)),
            "attention_mask": ort.OrtValue.ortvalue_from_numpy(np.ones((1, len(ids)), np.int64)),
        }
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
        if self.bundle.task != EMBEDDING and len(labels) != self._session.width:
            raise InputError(
                f"{where}: result.labels has {len(labels)} labels and the graph {self._session.width}; {AGAIN}"
            )
        self._labels: list[str] = labels
        self._pooling: dict[str, Any] = result.get("pooling") or {}

    def classify(self, text: str) -> list[Label]:
        """Every label with its probability, the likeliest first. Raises InputError where that isn't the task."""
        scores = _softmax(self._session.run(self._read(text, CLASSIFICATION).ids))
        found = [Label(name, float(s)) for name, s in zip(self._labels, scores, strict=True)]
        return sorted(found, key=lambda label: -label.score)

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
        return pool(self._session.run(self._read(text, EMBEDDING).ids), **self._pooling)

    def tokens_lost(self, text: str) -> int:
        """Tokens of a text that are cut off, because the model reads no more at once."""
        return self._texts.encode(text).lost

    def _read(self, text: str, task: str) -> EncodedText:
        if self.bundle.task != task:
            raise InputError(f"{self.bundle.path}: is for {self.bundle.task}, not for {task}")
        if not text.strip():
            raise InputError("text: is empty; give one or more words")
        return self._texts.encode(text)


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


def pool(vectors: Array, mode: str = "mean", normalize: bool = True) -> Array:
    """One vector float32 [H] of a text's token vectors [T, H]."""
    vector: Array = vectors[0] if mode == "cls" else vectors.mean(axis=0)
    return vector / max(float(np.linalg.norm(vector)), 1e-12) if normalize else vector


def _softmax(logits: Array) -> Array:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return scores
