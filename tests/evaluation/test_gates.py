"""The gates: what misses one, by how much, and what can't be judged."""

from __future__ import annotations

from typing import Any

import pytest

from edgepeft.config.recipe import Recipe, promised
from edgepeft.config.target_sections import Gates
from edgepeft.evaluation.gates import for_precision, learned_little, missed_gates

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


LEARNED = {"base_task_loss": 2.5, "reference_task_loss": 2.4999}


def test_training_that_gained_nothing_misses_a_gate_by_default() -> None:
    (line,) = missed(LEARNED)
    assert line.startswith("min_reference_gain: 0.0001 < 0.001 (the adapter's loss on test rows is")
    assert missed({**LEARNED, "reference_task_loss": float("nan")})
    assert missed({**LEARNED, "reference_task_loss": 2.0}) == []
    assert missed(LEARNED, min_reference_gain=None) == []
    assert missed({**LEARNED, "reference_task_loss": 2.0}, min_reference_gain=0.6) != []


def test_more_right_answers_count_where_the_loss_says_nothing() -> None:
    better = {**LEARNED, "base_exact_match": 0.5, "reference_exact_match": 0.97}
    assert missed(better) == []
    assert learned_little({**better, "reference_exact_match": 0.505}) is not None


@pytest.mark.parametrize(
    ("recipe", "bound"),
    [
        ({}, 0.001),
        ({"adapter": "mine"}, None),
        ({"adapter": "mine", "gates": {"min_reference_gain": 0.2}}, 0.2),
        ({"training": {"objective": "preference"}}, None),
        ({"gates": {"min_reference_gain": None}}, None),
    ],
)
def test_the_gain_is_a_gate_of_whoever_trains(recipe: dict[str, Any], bound: float | None) -> None:
    needed = {"model": "m", "data": {"train": "t", "test": "t"}, "targets": ["cpu-fp32"]}
    assert promised(Recipe.model_validate({**needed, **recipe})).min_reference_gain == bound


def test_floating_point_targets_have_bounds_of_their_own_where_nothing_is_said() -> None:
    for precision in ("fp32", "nf4"):
        own = for_precision(Gates(), precision)
        assert (own.max_task_kl, own.max_generic_kl) == (1e-5, 1e-5)
        assert missed_gates({"task_kl": 2e-5}, own) == ["max_task_kl: 2e-05 > 1e-05"]
    said = for_precision(Gates(max_task_kl=0.05, max_generic_kl=None), "fp32")
    assert (said.max_task_kl, said.max_generic_kl) == (0.05, None)
    assert for_precision(Gates(), "int4") == Gates()
