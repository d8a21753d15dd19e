"""The gates: what misses one, by how much, and what can't be judged."""

from __future__ import annotations

from typing import Any

import pytest

from edgepeft.fidelity.gates import missed_gates
from edgepeft.target_sections import Gates

GOOD = {
    "exact_match": 0.97,
    "reference_exact_match": 1.0,
    "task_kl": 0.01,
    "generic_kl": 0.4,
}


def missed(measures: dict[str, Any], **gates: Any) -> list[str]:
    return missed_gates({**GOOD, **measures}, Gates.model_validate(gates))


def test_defaults_let_a_good_bundle_pass() -> None:
    assert missed({}) == []


@pytest.mark.parametrize(
    ("measures", "gates", "expected"),
    [
        (
            {"exact_match": 0.9},
            {},
            "max_exact_match_drop: 0.1000 > 0.03 (reference 1.000, bundle 0.900)",
        ),
        ({"task_kl": 0.0501}, {}, "max_task_kl: 0.0501 > 0.05"),
        ({"task_kl": float("nan")}, {}, "max_task_kl: nan > 0.05"),
        ({"task_kl": float("inf")}, {}, "max_task_kl: inf > 0.05"),
        ({}, {"max_generic_kl": 0.3}, "max_generic_kl: 0.4000 > 0.3"),
        ({"generic_kl": float("nan")}, {"max_generic_kl": 9}, "max_generic_kl: nan > 9"),
        ({}, {"min_exact_match": 0.98}, "min_exact_match: 0.9700 < 0.98"),
        (
            {"exact_match": 0.5, "reference_exact_match": 0.51},
            {"max_exact_match_drop": 0.0},
            "max_exact_match_drop: 0.0100 > 0 (reference 0.510, bundle 0.500)",
        ),
    ],
)
def test_a_missed_gate_says_its_value_and_its_bound(
    measures: dict[str, Any], gates: dict[str, Any], expected: str
) -> None:
    assert missed(measures, **gates) == [expected]


@pytest.mark.parametrize(
    ("measures", "gates"),
    [
        ({"exact_match": 0.0}, {"max_exact_match_drop": None}),
        ({"task_kl": 9.0}, {"max_task_kl": None}),
        ({"task_kl": 0.05}, {}),
        ({}, {"min_exact_match": 0.97}),
        # Better than the reference is no drop.
        ({"exact_match": 1.0, "reference_exact_match": 0.5}, {"max_exact_match_drop": 0.0}),
        # 200 rows, 6 of them wrong: exactly the bound, whatever floating point makes of it.
        ({"exact_match": 194 / 200, "reference_exact_match": 1.0}, {}),
        ({"exact_match": 1 - 0.03 - 1e-12}, {}),
        # Plain text has no exact match.
        ({"exact_match": None, "reference_exact_match": None}, {"min_exact_match": 0.9}),
    ],
)
def test_gates_that_hold(measures: dict[str, Any], gates: dict[str, Any]) -> None:
    assert missed(measures, **gates) == []


def test_every_missed_gate_is_told() -> None:
    worst = {"exact_match": 0.0, "task_kl": 3.0, "generic_kl": 3.0}
    lines = missed(worst, max_generic_kl=0.1, min_exact_match=0.5)
    assert [line.partition(":")[0] for line in lines] == [
        "max_exact_match_drop",
        "min_exact_match",
        "max_task_kl",
        "max_generic_kl",
    ]
