"""The measures against their definitions, written out anew."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgepeft.metrics.generation import (
    Comparison,
    could_still_match,
    recovery,
    token_loss,
    wilson_interval,
)

VOCABULARY = 50


def logits(tokens: int, seed: int, scale: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, VOCABULARY, generator=generator) * scale


def targets(tokens: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (tokens,), generator=generator)


def log_softmax(values: torch.Tensor) -> np.ndarray:
    """In float64, straight from the definition."""
    array = values.numpy().astype(np.float64)
    shifted = array - array.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


@pytest.mark.parametrize("scale", [0.01, 1.0, 20.0])
def test_measures_are_their_definitions(scale: float) -> None:
    comparison = Comparison()
    kl, loss, reference_loss, agree = [], [], [], []
    for seed, tokens in enumerate((1, 7, 30)):
        one, other = logits(tokens, seed, scale), logits(tokens, seed + 100, scale)
        wanted = targets(tokens, seed)
        comparison.add(one, other, wanted)
        log_p, log_q = log_softmax(one), log_softmax(other)
        kl += list((np.exp(log_p) * (log_p - log_q)).sum(-1))
        picked = (np.arange(tokens), wanted.numpy())
        reference_loss += list(-log_p[picked])
        loss += list(-log_q[picked])
        agree += list(one.numpy().argmax(-1) == other.numpy().argmax(-1))
    assert comparison.tokens == 38
    assert comparison.kl == pytest.approx(np.mean(kl), rel=1e-5, abs=2e-8)
    assert comparison.loss == pytest.approx(np.mean(loss), rel=1e-6)
    assert comparison.reference_loss == pytest.approx(np.mean(reference_loss), rel=1e-6)
    assert comparison.top1_agreement == np.mean(agree)


def test_kl_is_from_the_reference_and_not_the_other_way() -> None:
    sharp, flat = torch.tensor([[10.0, 0.0, 0.0]]), torch.zeros(1, 3)
    forward, backward = Comparison(), Comparison()
    forward.add(sharp, flat, torch.tensor([0]))
    backward.add(flat, sharp, torch.tensor([0]))
    assert forward.kl == pytest.approx(math.log(3), rel=1e-2)
    assert backward.kl > 4


def test_equal_models_are_at_no_distance() -> None:
    comparison = Comparison()
    same = logits(64, 0)
    comparison.add(same, same + 5.0, targets(64, 0))
    assert 0 <= comparison.kl < 1e-6
    assert comparison.top1_agreement == 1
    assert comparison.loss == pytest.approx(comparison.reference_loss, rel=1e-6)


@given(st.integers(0, 2**31), st.floats(1e-7, 1e-3))
def test_kl_is_never_negative(seed: int, noise: float) -> None:
    comparison = Comparison()
    one = logits(4, seed)
    comparison.add(one, one + noise * logits(4, seed + 1), targets(4, seed))
    assert comparison.kl >= 0


def test_loss_is_summed_over_the_wanted_tokens() -> None:
    probabilities = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    loss = token_loss(probabilities.log(), torch.tensor([1, 0]))
    assert loss == pytest.approx(-math.log(0.75) - math.log(0.5), rel=1e-6)


@pytest.mark.parametrize(
    ("base", "other", "reference", "expected"),
    [
        (2.0, 0.5, 0.5, 1.0),
        (2.0, 2.0, 0.5, 0.0),
        (2.0, 1.25, 0.5, 0.5),
        (2.0, 2.3, 0.5, -0.2),
        (2.0, 0.2, 0.5, 1.2),
        # Training that gained nothing can't be recovered.
        (0.5, 0.4, 0.5, None),
        (0.5, 0.4, 0.7, None),
    ],
)
def test_recovery_is_the_share_of_what_training_gained(
    base: float, other: float, reference: float, expected: float | None
) -> None:
    found = recovery(base, other, reference)
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (48, 48, 0.9259, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_interval_is_the_published_one(
    successes: int, trials: int, low: float, high: float
) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_interval_holds_the_share(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials + 1e-12
    assert successes / trials - 1e-12 <= high <= 1
    assert low < high


@pytest.mark.parametrize(
    ("answer", "wanted", "possible"),
    [
        ("", "yes", True),
        ("ye", "yes", True),
        ("yes", "yes", True),
        ("  ye", "yes", True),
        ("yes \n", "yes", True),
        ("yes, ", "yes", False),
        ("yeah", "yes", False),
        ("no", "yes", False),
        ("a ", "a b", True),
        ("a  ", "a b", False),
        ("caf\ufffd", "café", True),
        ("caf\ufffd\ufffd", "café", True),
        ("cof\ufffd", "café", False),
        ("yes\ufffd", "yes", True),
        (" ", "", True),
        ("x", "", False),
    ],
)
def test_whether_an_answer_can_still_match(answer: str, wanted: str, possible: bool) -> None:
    assert could_still_match(answer, wanted) == possible


@given(st.text(max_size=20), st.text(" \n\t", max_size=3), st.text(" \n", max_size=3))
def test_every_beginning_of_a_right_answer_can_still_match(
    text: str, before: str, after: str
) -> None:
    wanted = text.strip()
    whole = f"{before}{wanted}{after}"
    assert whole.strip() == wanted
    for length in range(len(whole) + 1):
        assert could_still_match(whole[:length], wanted)


@given(st.text("ab \ufffd", max_size=6), st.text("ab ", max_size=6))
def test_what_cannot_match_any_more_never_does(answer: str, text: str) -> None:
    wanted = text.strip()
    if not could_still_match(answer, wanted):
        settled = answer.rstrip("\ufffd")
        for rest in ("", " ", wanted, wanted[len(settled) :], wanted[len(settled.lstrip()) :]):
            assert (settled + rest).strip() != wanted
