"""What is suggested where a gate is missed: what bears on that gate, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from edgepeft.config.recipe import Recipe
from edgepeft.config.target_sections import Gates
from edgepeft.evaluation.advice import Cost, Situation, Suggestion, suggestions
from edgepeft.evaluation.advice_lines import advice_lines
from edgepeft.evaluation.gates import judged_gates
from edgepeft.evaluation.measures import Level0
from edgepeft.models.tasks import CLASSIFICATION, GENERATION
from edgepeft.quantization.algorithms import resolve_algorithm
from edgepeft.targets import all_targets, resolve_target

GOOD = {
    "exact_match": 1.0,
    "reference_exact_match": 1.0,
    "task_kl": 0.01,
    "generic_kl": 0.1,
    "base_task_loss": 2.0,
    "reference_task_loss": 0.5,
}
LOST_ANSWERS = {"exact_match": 0.8}
FAR = {"task_kl": 0.2}


def situation(
    measures: dict[str, Any], recipe: dict[str, Any] | None = None, **known: Any
) -> Situation:
    """A bundle of a recipe's first target with these measures beside good ones."""
    given = {"model": "m", "data": {"train": "t", "test": "t"}, "targets": ["cpu-int4"]}
    made = Recipe.model_validate({**given, **(recipe or {})})
    target, facts = made.targets[0], {**GOOD, **measures}
    profile = resolve_target(target)
    grid = profile.grid(made.quantize, target.quantize.model_dump(exclude_none=True))
    judged = judged_gates(facts, made.gates)
    return Situation(
        recipe=made,
        target=target,
        profile=profile,
        grid=grid,
        missed=tuple(one for one in judged if one.state == "missed"),
        reference_share=facts["reference_exact_match"],
        task_kl=facts["task_kl"],
        **{
            "task": GENERATION,
            "algorithm": resolve_algorithm(grid.algorithm, profile.bits or 0),
            **known,
        },
    )


def keys(found: list[Suggestion]) -> set[str]:
    """The recipe's keys that are to be changed."""
    return {key for one in found for key in one.changes}


def test_a_bundle_that_passes_gets_no_advice() -> None:
    assert suggestions(situation({})) == []


@pytest.mark.parametrize("measures", [LOST_ANSWERS, FAR])
def test_what_rounding_lost_is_sought_in_rounding(measures: dict[str, float]) -> None:
    finer = (all_targets()["cpu-int8"],)
    found = suggestions(situation(measures, calibrated=True, finer=finer))
    assert keys(found) == {
        "quantize.calibration.tokens",
        "quantize.learn_steps",
        "quantize.block_size",
        "quantize.max_task_kl",
        "targets",
    }
    assert [one.cost for one in found] == sorted(one.cost for one in found)
    changes = {key: value for one in found for key, value in one.changes.items()}
    assert changes["targets"] == [{"name": "cpu-int8"}]
    assert changes["quantize.calibration.tokens"] == 4 * 3072
    # The bound that was missed, or half of the divergence that cost the answers.
    assert changes["quantize.max_task_kl"] == (0.05 if measures is FAR else 0.005)


def test_what_was_not_learned_is_sought_in_training() -> None:
    found = suggestions(situation({"reference_task_loss": 2.0}, calibrated=True))
    assert keys(found) == {"training.epochs"}
    assert not any(key.startswith(("quantize", "targets")) for key in keys(found))
    assert found[0].what == "edgepeft data RECIPE"
    steps = {"training": {"max_steps": 40}, "method": {"rank": 8}}
    found = suggestions(situation({"reference_task_loss": 2.0}, steps))
    changes = {key: value for one in found for key, value in one.changes.items()}
    assert changes == {"training.max_steps": 80, "method.rank": 16}


def test_an_adapter_that_exists_is_not_trained() -> None:
    recipe = {"adapter": "mine", "gates": {"min_reference_gain": 0.1}}
    found = suggestions(situation({"reference_task_loss": 2.0}, recipe))
    assert keys(found) == set()
    assert any("another task" in one.why for one in found)


def test_a_bundle_cannot_be_better_than_its_reference() -> None:
    wanted = {"gates": {"min_exact_match": 0.9, "max_exact_match_drop": None}}
    measures = {"exact_match": 0.5, "reference_exact_match": 0.5}
    assert keys(suggestions(situation(measures, wanted))) == {"training.epochs"}
    lost = keys(suggestions(situation({**measures, "reference_exact_match": 0.95}, wanted)))
    assert "training.epochs" not in lost
    assert "quantize.learn_steps" in lost


def test_a_graph_unlike_the_model_is_no_matter_of_the_recipe() -> None:
    witness = {"compared": "the bundle", "difference": 0.1, "engines": {}, "reference": None}
    (found,) = suggestions(situation({"witness": witness}))
    assert (found.what, found.changes) == ("edgepeft doctor", {})


def test_nothing_of_a_grid_is_said_of_weights_on_none() -> None:
    found = suggestions(situation(FAR, {"targets": ["cpu-fp32"]}))
    assert found == []
    other = {"targets": ["cpu-fp32"], "merge": {"base": "original"}}
    (found_base,) = suggestions(situation(FAR, other, trained_on="nf4"))
    assert found_base.changes == {"merge.base": "dequantized"}
    assert suggestions(situation(FAR, other, trained_on="none")) == []


@pytest.mark.parametrize(
    ("quantize", "said", "not_said"),
    [
        ({"algorithm": "rtn"}, {"quantize.algorithm"}, set()),
        ({"algorithm": "gptq"}, set(), {"quantize.algorithm"}),
        ({"head": "int4"}, {"quantize.head"}, set()),
        ({"learn_steps": 40}, set(), {"quantize.learn_steps"}),
        ({"block_size": 16}, set(), {"quantize.block_size"}),
        (
            {"max_bytes": "100MB"},
            {"quantize.max_bytes"},
            {"quantize.block_size", "quantize.head", "quantize.max_task_kl"},
        ),
        # A budget in nats is a gate as well: less of it would be missed as this was.
        ({"max_task_kl": 0.04}, set(), {"quantize.max_task_kl", "quantize.max_bytes"}),
    ],
)
def test_what_is_done_already_is_not_suggested(
    quantize: dict[str, Any], said: set[str], not_said: set[str]
) -> None:
    found = keys(suggestions(situation(FAR, {"quantize": quantize})))
    assert said <= found
    assert not not_said & found


def test_float_activations_are_worth_a_word_where_they_were_measured_to_help() -> None:
    def level(kl: float) -> Level0:
        return Level0(task_kl=kl, generic_kl=0, task_kl_as_shipped=0.2, generic_kl_as_shipped=0)

    assert "quantize.accuracy_level" in keys(suggestions(situation(FAR, level_0=level(0.02))))
    assert "quantize.accuracy_level" not in keys(suggestions(situation(FAR, level_0=level(0.19))))
    own = {"targets": [{"name": "cpu-int4", "accuracy_level": 4}]}
    found = suggestions(situation(FAR, own, level_0=level(0.02)))
    (one,) = [one for one in found if one.cost is Cost.SPEED]
    assert one.changes == {"targets": [{"name": "cpu-int4", "accuracy_level": 0}]}


def test_a_target_that_has_the_last_word_is_changed_itself() -> None:
    own = {"targets": ["cpu-int8", {"name": "cpu-int4", "quantize": {"block_size": 128}}]}
    recipe = {**own, "targets": own["targets"][::-1]}
    found = suggestions(situation(FAR, recipe))
    (one,) = [one for one in found if "block_size" in one.what]
    assert one.changes == {
        "targets": [{"name": "cpu-int4", "quantize": {"block_size": 64}}, {"name": "cpu-int8"}]
    }
    # A budget is for 4-bit targets alone.
    (budget,) = [one for one in found if "max_task_kl" in one.what]
    assert budget.changes["targets"] == [recipe["targets"][0]]


def test_layers_that_are_furthest_off_are_named() -> None:
    found = suggestions(situation(FAR, layer_errors=(0.01, 0.2, 0.03, 0.1)))
    (learning,) = [one for one in found if "learn_steps" in one.what]
    assert learning.why.endswith("layers 1 (20.0%), 3 (10.0%), 2 (3.0%)")


def test_labels_that_were_lost_are_sought_in_rounding_too() -> None:
    measures = {"accuracy": 0.8, "reference_accuracy": 0.9, "exact_match": None}
    recipe = {"targets": ["cpu-int8"], "gates": {"max_task_kl": None}}
    finer = (all_targets()["cpu-fp32"],)
    found = keys(suggestions(situation(measures, recipe, task=CLASSIFICATION, finer=finer)))
    # Smoothing and learned scales are proposed for text generation alone.
    assert found == {"quantize.block_size", "targets"}


def test_the_bound_of_a_gate_decides() -> None:
    assert [one.gate for one in situation(FAR).missed] == ["max_task_kl"]
    states = {one.gate: one.state for one in judged_gates(GOOD, Gates())}
    assert states == {
        "max_float_difference": "skipped",
        "max_exact_match_drop": "passed",
        "min_exact_match": "skipped",
        "max_task_kl": "passed",
        "max_generic_kl": "skipped",
        "min_reference_gain": "passed",
    }


def test_lost_rows_are_named_and_counted() -> None:
    lost = {"adapter": None, "rows": 7, "first": [f"t line {n}" for n in "12345"], "file": "F"}
    tried = {"what": "quantize.head: int8", "why": "because", "cost": "a larger bundle"}
    assert advice_lines("cpu-int4", {"lost": [lost], "try": [tried]}) == [
        "cpu-int4: 7 test rows are lost that the reference answers right: t line 1, t line 2, t line 3, "
        "t line 4, t line 5 and 2 more (all in F)",
        "cpu-int4: try quantize.head: int8: because (a larger bundle)",
    ]
    none = {"adapter": "mine", "rows": 0, "first": [], "file": "F"}
    (line,) = advice_lines("cpu-int4", {"lost": [none], "try": []})
    assert line == "cpu-int4: mine: no test row is lost that the reference answers right"
