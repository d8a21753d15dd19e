"""What a judge of encoders' outputs is: how well a model does a task, and how near it is to the reference.

Outputs of a model come as one float32 tensor a row: logits [n, C] at a row's n targets (one of a text, one of
each word), a ranker's number [1, 1], or the vectors [2, H] or [3, H] of a pair or a triple.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch

from edgepeft.metrics.encoder_examples import Example

Outputs = Sequence[torch.Tensor]


@dataclass(frozen=True)
class Quality:
    """How well a model does a task on its own: mean loss in nats (of values: squared), and named shares up to 1.

    A share that rows say nothing of is None.
    """

    loss: float
    shares: Mapping[str, float | None]


class Answer(NamedTuple):
    """A row's answer in words beside the wanted one: labels, a rank, or where the row stands whose positive was
    found.
    """

    right: bool
    wanted: str
    got: str


class Judge(Protocol):
    """The measures of one task. ``counted`` names the share that counts right answers among targets, if any."""

    counted: str | None

    def quality(self, outputs: Outputs, examples: Sequence[Example]) -> Quality:
        """Loss and shares of a model's own outputs."""
        ...

    def answers(self, outputs: Outputs, examples: Sequence[Example]) -> list[Answer]:
        """What a model answers each row."""
        ...

    def closeness(
        self, reference: Outputs, other: Outputs, examples: Sequence[Example]
    ) -> dict[str, Any]:
        """How near another model's outputs are to the reference's, by name."""
        ...

    def targets(self, examples: Sequence[Example]) -> int:
        """How many things are judged in the rows."""
        ...


def bernoulli_kl(reference: torch.Tensor, other: torch.Tensor) -> float:
    """Mean KL(reference || other) in nats of yes-or-no choices whose logits are float32 [...]."""
    log = torch.nn.functional.logsigmoid
    p, q = reference.double(), other.double()
    yes = p.sigmoid() * (log(p) - log(q))
    no = (-p).sigmoid() * (log(-p) - log(-q))
    return float((yes + no).clamp(min=0).mean())
