"""The measures of embeddings: cosines with the reference's vectors, and retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from edgepeft.metrics.encoder_examples import Example, contrast
from edgepeft.metrics.judge import Answer, Outputs, Quality


class VectorJudge:
    """Vectors of pairs and triples: ``retrieval_accuracy``, an anchor looks for its positive among all texts; how
    near by ``cosine_similarity`` (mean) and ``min_cosine_similarity``.
    """

    counted: str | None = "retrieval_accuracy"

    def quality(self, outputs: Outputs, examples: Sequence[Example]) -> Quality:
        """The loss that training has, over all rows at once; an equal positive is as good."""
        scores = _scores(outputs)
        loss = float(torch.nn.functional.cross_entropy(scores, torch.arange(len(outputs))))
        right = sum(one.right for one in self.answers(outputs, examples))
        return Quality(loss, {"retrieval_accuracy": right / len(examples)})

    def answers(self, outputs: Outputs, examples: Sequence[Example]) -> list[Answer]:
        """Where the text stands that is nearest to each anchor."""
        texts = [(one.other, one.where) for one in examples]
        texts += [(one.negative, one.where) for one in examples if one.negative is not None]
        nearest = _scores(outputs).argmax(-1).tolist()
        return [
            Answer(texts[at][0] == one.other, one.where, texts[at][1])
            for at, one in zip(nearest, examples, strict=True)
        ]

    def closeness(
        self, reference: Outputs, other: Outputs, examples: Sequence[Example]
    ) -> dict[str, Any]:
        """Cosines of each vector with the reference's."""
        cosines = torch.nn.functional.cosine_similarity(
            torch.cat(list(reference)), torch.cat(list(other)), dim=-1
        )
        return {
            "cosine_similarity": float(cosines.double().mean()),
            "min_cosine_similarity": float(cosines.min()),
        }

    def targets(self, examples: Sequence[Example]) -> int:
        """Anchors."""
        return len(examples)


def _scores(outputs: Outputs) -> torch.Tensor:
    """Scores float32 [B, C] of the anchors of B rows with all their positives, then all their negatives."""
    anchors, positives = (torch.stack([row[side] for row in outputs]) for side in (0, 1))
    negatives = [row[2:] for row in outputs]
    return contrast(anchors, torch.cat([positives, *negatives]))
