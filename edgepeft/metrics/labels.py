"""The measures of classifiers: accuracy and F1, and KL(reference || other) of class probabilities in nats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from edgepeft.metrics.encoder_examples import Example
from edgepeft.metrics.judge import Answer, Outputs, Quality, bernoulli_kl
from edgepeft.runtime.encoder import group_tags


class _OfLabels:
    """What judges of labels share: the names of the outputs."""

    def __init__(self, labels: Sequence[str]) -> None:
        """``labels`` are the names of the outputs, in their order."""
        self._labels = labels

    def _named(self, indices: Sequence[int]) -> str:
        return " ".join(self._labels[index] for index in indices)


class LabelJudge(_OfLabels):
    """One label of each text: ``accuracy`` and ``macro_f1``; how near by ``task_kl`` and ``label_agreement``."""

    counted: str | None = "accuracy"

    def quality(self, outputs: Outputs, examples: Sequence[Example]) -> Quality:
        """Cross-entropy per target, and the shares."""
        logits = torch.cat(list(outputs))
        targets = torch.tensor([target for example in examples for target in example.targets])
        loss = float(torch.nn.functional.cross_entropy(logits, targets))
        guesses = logits.argmax(-1)
        accuracy = float((guesses == targets).double().mean())
        further = self._further(outputs, examples, guesses, targets)
        return Quality(loss, {"accuracy": accuracy, **further})

    def _further(
        self,
        outputs: Outputs,
        examples: Sequence[Example],
        guesses: torch.Tensor,
        targets: torch.Tensor,
    ) -> dict[str, float]:
        return {"macro_f1": macro_f1(guesses, targets)}

    def answers(self, outputs: Outputs, examples: Sequence[Example]) -> list[Answer]:
        """The likeliest label of each target; a row of several is right as a whole."""
        found = []
        for logits, example in zip(outputs, examples, strict=True):
            guesses = logits.argmax(-1).tolist()
            wanted, got = (self._named(side) for side in (example.targets, guesses))
            found.append(Answer(guesses == example.targets, wanted, got))
        return found

    def closeness(
        self, reference: Outputs, other: Outputs, examples: Sequence[Example]
    ) -> dict[str, Any]:
        """Mean divergence per target, and the share of targets with the same likeliest label."""
        mine, theirs = torch.cat(list(reference)), torch.cat(list(other))
        log_p, log_q = (torch.log_softmax(logits.double(), -1) for logits in (mine, theirs))
        kl = (log_p.exp() * (log_p - log_q)).sum(-1).clamp(min=0)
        return {
            "task_kl": float(kl.mean()),
            "label_agreement": float((mine.argmax(-1) == theirs.argmax(-1)).double().mean()),
        }

    def targets(self, examples: Sequence[Example]) -> int:
        """Texts, or tagged words."""
        return sum(len(one.targets) for one in examples)


class TagJudge(LabelJudge):
    """One label of each word: ``accuracy``, and ``span_f1`` of whole spans with their labels."""

    def _further(
        self,
        outputs: Outputs,
        examples: Sequence[Example],
        guesses: torch.Tensor,
        targets: torch.Tensor,
    ) -> dict[str, float]:
        return {"span_f1": self._span_f1(outputs, examples)}

    def _span_f1(self, outputs: Outputs, examples: Sequence[Example]) -> float:
        """F1 as conlleval counts spans; 1 where there is none to find or found."""
        right = guessed = wanted = 0
        for logits, example in zip(outputs, examples, strict=True):
            found = Counter(
                group_tags([self._labels[index] for index in logits.argmax(-1).tolist()])
            )
            true = Counter(group_tags([self._labels[index] for index in example.targets]))
            right += sum((found & true).values())
            guessed += sum(found.values())
            wanted += sum(true.values())
        return 2 * right / (guessed + wanted) if guessed + wanted else 1.0


class SeveralLabelsJudge(_OfLabels):
    """Any number of labels of each text, each by itself: ``micro_f1``, ``macro_f1`` and ``subset_accuracy`` (rows
    with just the labels wanted); how near by ``task_kl`` and ``label_agreement``, per text and label.

    A label is given where its probability, the sigmoid of its logit, is above a half.
    """

    counted: str | None = None

    def quality(self, outputs: Outputs, examples: Sequence[Example]) -> Quality:
        """Binary cross-entropy per text and label, and the shares."""
        logits, wanted = torch.cat(list(outputs)), several_hot(examples, len(self._labels))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        given, true = logits > 0, wanted > 0
        right = (given & true).sum(0)
        both = given.sum(0) + true.sum(0)
        # A label that nobody gives and none wants says nothing.
        each = [2 * int(r) / int(b) for r, b in zip(right, both, strict=True) if b]
        shares = {
            "micro_f1": 2 * int(right.sum()) / int(both.sum()) if int(both.sum()) else 1.0,
            "macro_f1": sum(each) / len(each) if each else 1.0,
            "subset_accuracy": float((given == true).all(-1).double().mean()),
        }
        return Quality(float(loss), shares)

    def answers(self, outputs: Outputs, examples: Sequence[Example]) -> list[Answer]:
        """The labels of each text; right where they are all those wanted and no others."""
        found = []
        for logits, example in zip(outputs, examples, strict=True):
            given = (logits[0] > 0).nonzero().flatten().tolist()
            sides = (sorted(example.targets), given)
            wanted, got = (self._named(side) or "(none)" for side in sides)
            found.append(Answer(wanted == got, wanted, got))
        return found

    def closeness(
        self, reference: Outputs, other: Outputs, examples: Sequence[Example]
    ) -> dict[str, Any]:
        """Mean divergence per text and label, and the share of them that are given alike."""
        mine, theirs = torch.cat(list(reference)), torch.cat(list(other))
        return {
            "task_kl": bernoulli_kl(mine, theirs),
            "label_agreement": float(((mine > 0) == (theirs > 0)).double().mean()),
        }

    def targets(self, examples: Sequence[Example]) -> int:
        """Texts times labels."""
        return len(examples) * len(self._labels)


def several_hot(examples: Sequence[Example], labels: int) -> torch.Tensor:
    """Which of so many labels each text has: float32 [B, C], 1 for those."""
    wanted = torch.zeros(len(examples), labels)
    for index, example in enumerate(examples):
        wanted[index, example.targets] = 1.0
    return wanted


def macro_f1(guesses: torch.Tensor, targets: torch.Tensor) -> float:
    """Mean F1 of the classes that occur among targets or guesses; both int64 [N]."""
    scores = []
    for label in torch.cat([guesses, targets]).unique():
        right = int(((guesses == label) & (targets == label)).sum())
        scores.append(2 * right / (int((guesses == label).sum()) + int((targets == label).sum())))
    return sum(scores) / len(scores)
