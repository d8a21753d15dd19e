"""The measures: KL divergence, top-1 agreement, loss, recovery, exact match and its interval.

KL is KL(reference || other) in nats per scored token, from float32 logits over the whole vocabulary, accumulated
in float64. Recovery is (L_base - L_other) / (L_base - L_reference) on the task's tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch


@dataclass
class Comparison:
    """Sums over scored tokens of one kind of probe, other model against the reference."""

    tokens: int = 0
    kl_sum: float = 0.0
    agree: int = 0
    loss_sum: float = 0.0
    reference_loss_sum: float = 0.0

    def __add__(self, other: Comparison) -> Comparison:
        """Both together."""
        sums = (getattr(self, field.name) + getattr(other, field.name) for field in fields(self))
        return Comparison(*sums)

    def add(self, reference: torch.Tensor, other: torch.Tensor, targets: torch.Tensor) -> None:
        """Add T tokens: logits float32 [T, V] of both, the tokens int64 [T] they should predict."""
        log_p = torch.log_softmax(reference, dim=-1)
        log_q = torch.log_softmax(other, dim=-1)
        self.loss_sum += token_loss(log_q, targets)
        self.reference_loss_sum += token_loss(log_p, targets)
        # In place: such tensors are the largest that a verification holds.
        further = log_q.neg_().add_(log_p)
        kl = torch.sum(further.mul_(log_p.exp_()), dim=-1, dtype=torch.float64)
        self.tokens += int(targets.numel())
        # Rounding can bring the divergence of equal distributions below zero.
        self.kl_sum += float(kl.clamp(min=0).sum())
        self.agree += int((reference.argmax(-1) == other.argmax(-1)).sum())

    @property
    def kl(self) -> float:
        """Mean KL in nats per token."""
        return self.kl_sum / self.tokens

    @property
    def top1_agreement(self) -> float:
        """Share of tokens where both put the same token first."""
        return self.agree / self.tokens

    @property
    def loss(self) -> float:
        """The other model's mean loss in nats per token."""
        return self.loss_sum / self.tokens

    @property
    def reference_loss(self) -> float:
        """The reference's mean loss in nats per token."""
        return self.reference_loss_sum / self.tokens


def token_loss(log_probabilities: torch.Tensor, targets: torch.Tensor) -> float:
    """Summed negative log-likelihood of ``targets`` [T] under [T, V], in nats."""
    picked = log_probabilities.gather(-1, targets[:, None])
    return -float(picked.sum(dtype=torch.float64))


def recovery(base_loss: float, other_loss: float, reference_loss: float) -> float | None:
    """How much of what training gained the other model keeps; None where training gained nothing."""
    gained = base_loss - reference_loss
    return (base_loss - other_loss) / gained if gained > 1e-6 else None


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927, JASA 22:209)."""
    if trials == 0:
        return (0.0, 1.0)
    z = 1.959963984540054
    share = successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / scale
    low = 0.0 if successes == 0 else centre - half
    return (low, 1.0 if successes == trials else centre + half)


def could_still_match(answer: str, wanted: str) -> bool:
    """Whether text that has begun as ``answer`` can still come to equal ``wanted`` once stripped.

    A replacement character at the end may be half of a character, so it settles nothing.
    """
    begun = answer.lstrip().rstrip("\ufffd")
    return wanted.startswith(begun) or begun.rstrip() == wanted
