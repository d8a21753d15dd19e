"""The measures of encoders: accuracy and F1, KL of class probabilities, cosines, retrieval.

Outputs of a model come as one float32 tensor a row: logits [n, C] at a row's n targets (one of a text, one of
each word), or the vectors [2, H] of a pair. KL is KL(reference || other) in nats per target.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from edgepeft.metrics.encoder_examples import Example, contrast
from edgepeft.models.tasks import EMBEDDING, TAGGING
from edgepeft.runtime.encoder import group_tags

Outputs = Sequence[torch.Tensor]


@dataclass(frozen=True)
class Quality:
    """How well a model does a task on its own: mean loss in nats, and named shares between 0 and 1."""

    loss: float
    shares: Mapping[str, float]


def quality(
    task: str, outputs: Outputs, examples: Sequence[Example], labels: Sequence[str]
) -> Quality:
    """Loss with ``accuracy`` and ``macro_f1`` of texts, ``accuracy`` and ``span_f1`` of words, or
    ``retrieval_accuracy`` of pairs.
    """
    if task == EMBEDDING:
        return _retrieval(outputs, examples)
    logits = torch.cat(list(outputs))
    targets = torch.tensor([target for example in examples for target in example.targets])
    loss = float(torch.nn.functional.cross_entropy(logits, targets))
    guesses = logits.argmax(-1)
    accuracy = float((guesses == targets).double().mean())
    if task == TAGGING:
        return Quality(loss, {"accuracy": accuracy, "span_f1": _span_f1(outputs, examples, labels)})
    return Quality(loss, {"accuracy": accuracy, "macro_f1": macro_f1(guesses, targets)})


def macro_f1(guesses: torch.Tensor, targets: torch.Tensor) -> float:
    """Mean F1 of the classes that occur among targets or guesses; both int64 [N]."""
    scores = []
    for label in torch.cat([guesses, targets]).unique():
        right = int(((guesses == label) & (targets == label)).sum())
        scores.append(2 * right / (int((guesses == label).sum()) + int((targets == label).sum())))
    return sum(scores) / len(scores)


def _span_f1(outputs: Outputs, examples: Sequence[Example], labels: Sequence[str]) -> float:
    """F1 of whole spans with their labels, as conlleval counts them; 1 where there is none to find or found."""
    right = guessed = wanted = 0
    for logits, example in zip(outputs, examples, strict=True):
        found = Counter(group_tags([labels[index] for index in logits.argmax(-1).tolist()]))
        true = Counter(group_tags([labels[index] for index in example.targets]))
        right += sum((found & true).values())
        guessed += sum(found.values())
        wanted += sum(true.values())
    return 2 * right / (guessed + wanted) if guessed + wanted else 1.0


class Answer(NamedTuple):
    """A row's answer in words beside the wanted one: labels, or where the row stands whose positive was found."""

    right: bool
    wanted: str
    got: str


def answers(
    task: str, outputs: Outputs, examples: Sequence[Example], labels: Sequence[str]
) -> list[Answer]:
    """What a model answers each row, outputs as in the module's docstring. A tagged row is right as a whole."""
    if task == EMBEDDING:
        nearest = _scores(outputs).argmax(-1).tolist()
        return [
            Answer(examples[at].other == one.other, one.where, examples[at].where)
            for at, one in zip(nearest, examples, strict=True)
        ]
    found = []
    for logits, example in zip(outputs, examples, strict=True):
        guesses = logits.argmax(-1).tolist()
        wanted, got = (
            " ".join(labels[index] for index in side) for side in (example.targets, guesses)
        )
        found.append(Answer(guesses == example.targets, wanted, got))
    return found


def _scores(outputs: Outputs) -> torch.Tensor:
    """Scores float32 [B, B] of the anchors of B pairs with all their positives."""
    anchors, positives = (torch.stack([pair[side] for pair in outputs]) for side in (0, 1))
    return contrast(anchors, positives)


def _retrieval(outputs: Outputs, examples: Sequence[Example]) -> Quality:
    """Each anchor looks for its positive among those of all rows; an equal positive is as good."""
    scores = _scores(outputs)
    loss = float(torch.nn.functional.cross_entropy(scores, torch.arange(len(scores))))
    nearest = scores.argmax(-1).tolist()
    right = sum(examples[at].other == one.other for at, one in zip(nearest, examples, strict=True))
    return Quality(loss, {"retrieval_accuracy": right / len(examples)})


def closeness(task: str, reference: Outputs, other: Outputs) -> dict[str, Any]:
    """How near another model's outputs are to the reference's.

    ``task_kl`` and ``label_agreement`` of classifiers; ``cosine_similarity`` (mean) and ``min_cosine_similarity``
    of embeddings.
    """
    if task == EMBEDDING:
        cosines = torch.nn.functional.cosine_similarity(
            torch.cat(list(reference)), torch.cat(list(other)), dim=-1
        )
        return {
            "cosine_similarity": float(cosines.double().mean()),
            "min_cosine_similarity": float(cosines.min()),
        }
    mine, theirs = torch.cat(list(reference)), torch.cat(list(other))
    log_p, log_q = (torch.log_softmax(logits.double(), -1) for logits in (mine, theirs))
    kl = (log_p.exp() * (log_p - log_q)).sum(-1).clamp(min=0)
    return {
        "task_kl": float(kl.mean()),
        "label_agreement": float((mine.argmax(-1) == theirs.argmax(-1)).double().mean()),
    }
