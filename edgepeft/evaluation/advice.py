"""What to try where a bundle misses a gate: changes of its recipe that bear on the gate that was missed.

Nothing here measures or plans. ``suggestions`` knows which keys bear on which gate; whoever has a plan at hand
drops those that the model, the target or the runtime refuses, and says what each costs (``pipeline/advice.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from edgepeft.config.recipe import Recipe
from edgepeft.config.target_sections import Quantize, Target
from edgepeft.evaluation.gates import DROPS, Judged
from edgepeft.evaluation.measures import Level0
from edgepeft.models.tasks import GENERATION, Task
from edgepeft.targets import TargetProfile
from edgepeft.utils.quantities import number

_LEARN_STEPS = 40
_MORE_TOKENS = 4
"""How many times the calibration tokens are raised at once."""
_WORTH_FLOAT = 0.8
"""Share of the divergence that has to be left with float activations for them to be worth their time."""
_NAMED_LAYERS = 3
_RANKS = 4096
"""The largest rank a recipe may have."""

_SHARES = (*(f"max_{share}_drop" for share in DROPS), "min_exact_match")
_DIVERGENCES = ("max_task_kl", "max_generic_kl", "max_score_difference", "min_rank_agreement")
_ROUNDING = (*_SHARES, *_DIVERGENCES, "min_cosine_similarity")
"""Gates that measure what rounding takes away from the reference."""


class Cost(IntEnum):
    """What a suggestion costs, the least first."""

    LOOKING = 0
    BUILDING = 1
    SPEED = 2
    BYTES = 3
    TRAINING = 4


COST_WORDS = {
    Cost.LOOKING: "builds nothing",
    Cost.BUILDING: "a longer build, no larger bundle",
    Cost.SPEED: "slower on the device, no larger bundle",
    Cost.BYTES: "a larger bundle",
    Cost.TRAINING: "trains again",
}


@dataclass(frozen=True)
class Suggestion:
    """Something to try. ``what`` is a change as one writes it in a recipe, or a command; ``changes`` are the
    recipe's keys and values, none for a command.
    """

    what: str
    why: str
    cost: Cost
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Situation:
    """A measured bundle and what it was built with.

    ``missed`` are its missed gates. ``grid`` and ``algorithm`` are how the target rounds, ``calibrated`` and
    ``smoothed`` what it does besides; ``trained_on`` is the kind of grid that the adapter was trained on, None
    where nobody says. ``reference_share`` is the share of test rows that the reference answers right,
    ``level_0`` what float activations would do, ``layer_errors`` each layer's error on calibration data.
    ``finer`` are targets of the same device with finer weights, which the recipe does not build for.
    """

    recipe: Recipe
    target: Target
    profile: TargetProfile
    grid: Quantize
    task: Task
    missed: tuple[Judged, ...]
    algorithm: str = ""
    calibrated: bool = False
    smoothed: bool = False
    trained_on: str | None = None
    train_rows: int = 0
    reference_share: float | None = None
    task_kl: float | None = None
    level_0: Level0 | None = None
    layer_errors: tuple[float, ...] = ()
    finer: tuple[TargetProfile, ...] = ()


def suggestions(of: Situation) -> list[Suggestion]:
    """What bears on the gates that were missed, the cheapest first; nothing that helps another gate alone."""
    missed = {one.gate: one for one in of.missed}
    found: list[Suggestion] = []
    if "max_float_difference" in missed:
        found.append(_other_libraries())
    short = missed.get("min_exact_match")
    untaught = (
        short is not None
        and short.bound is not None
        and of.reference_share is not None
        and of.reference_share < short.bound
    )
    if "min_reference_gain" in missed or untaught:
        found += _more_training(of)
    rounding = {gate for gate in missed if gate in _ROUNDING}
    if untaught:
        # No bundle is asked to be better than the model it was made of.
        rounding.discard("min_exact_match")
    if rounding:
        found += _nearer_the_reference(of, rounding)
    return sorted(found, key=lambda one: one.cost)


def _other_libraries() -> Suggestion:
    return Suggestion(
        "edgepeft doctor",
        "no key of a recipe mends this: graph, runtime or reference compute something else than transformers "
        "and PEFT do; compare the versions named with constraints.txt",
        Cost.LOOKING,
        {},
    )


def _more_training(of: Situation) -> Iterator[Suggestion]:
    """What may make a better reference; its rounding has no part in it."""
    recipe = of.recipe
    yield Suggestion(
        "edgepeft data RECIPE",
        "shows what the model learns of a row, and whether training and test rows are laid out alike",
        Cost.LOOKING,
        {},
    )
    if recipe.adapter is not None:
        yield Suggestion(
            "adapter", "the one given may be for another task than data.test", Cost.TRAINING, {}
        )
        return
    training = recipe.training
    if training.max_steps is not None:
        yield _set("training.max_steps", 2 * training.max_steps, "the reference has learned little")
    else:
        yield _set("training.epochs", 2 * training.epochs, "the reference has learned little")
    if recipe.method.rank is not None and 2 * recipe.method.rank <= _RANKS:
        yield _set("method.rank", 2 * recipe.method.rank, "an adapter of a higher rank holds more")
    yield Suggestion("data.train", f"more training rows than {of.train_rows}", Cost.TRAINING, {})


def _set(key: str, value: Any, why: str) -> Suggestion:
    said = f"{value:g}" if isinstance(value, float) else str(value)
    return Suggestion(f"{key}: {said}", why, Cost.TRAINING, {key: value})


def _nearer_the_reference(of: Situation, gates: set[str]) -> Iterator[Suggestion]:
    """What brings a bundle nearer to the reference it was made of."""
    base = of.recipe.merge.base
    if base != "dequantized" and of.trained_on != "none" and of.target.adapters == "merged":
        yield Suggestion(
            "merge.base: dequantized",
            f"the adapter is merged into another base ({base}) than it was trained on",
            Cost.BUILDING,
            {"merge.base": "dequantized"},
        )
    if of.profile.bits is not None:
        yield from _better_rounding(of, of.profile.bits)
        yield from _finer_grids(of, of.profile.bits, gates)
    yield from _finer_targets(of)


def _better_rounding(of: Situation, bits: int) -> Iterator[Suggestion]:
    """Ways to round to the same bits with less loss."""
    grid, layers = of.grid, _furthest_off(of.layer_errors)
    if bits == 4 and of.algorithm in ("rtn", "k_quant"):
        why = f"{of.algorithm} rounds each weight by itself; gptq looks at calibration data"
        yield _quantize(of, "algorithm", "gptq", why, Cost.BUILDING)
    if bits == 8 and not of.smoothed and of.task == GENERATION:
        why = "smoothing moves outliers of activations into weights"
        yield _quantize(of, "smooth", True, why, Cost.BUILDING)
    if of.calibrated:
        tokens = grid.calibration.tokens
        why = f"weights were rounded on {tokens} tokens of calibration data{layers}"
        yield _quantize(of, "calibration.tokens", _MORE_TOKENS * tokens, why, Cost.BUILDING)
    if grid.learn_steps == 0 and of.task == GENERATION:
        why = f"learns block scales that restore each layer's output{layers}"
        yield _quantize(of, "learn_steps", _LEARN_STEPS, why, Cost.BUILDING)
    exact = of.level_0
    if exact is not None and exact.task_kl < _WORTH_FLOAT * exact.task_kl_as_shipped:
        why = (
            f"activations are rounded to 8 bits: without that the task KL of the first probes is "
            f"{number(exact.task_kl)} instead of {number(exact.task_kl_as_shipped)}"
        )
        yield _quantize(of, "accuracy_level", 0, why, Cost.SPEED)


def _finer_grids(of: Situation, bits: int, gates: set[str]) -> Iterator[Suggestion]:
    """Ways to spend more bytes at the same bits, or some layers at more."""
    grid = of.grid
    if grid.max_bytes is not None:
        wider = int(1.25 * grid.max_bytes)
        yield _quantize(of, "max_bytes", wider, "finer grids fit into it", Cost.BYTES)
        return
    if grid.budget is not None:
        # It is a gate as well, so a smaller one asks for more and is missed as before.
        return
    if of.task == GENERATION and grid.head == "int4":
        yield _quantize(of, "head", "int8", "head and embedding have 4 bits", Cost.BYTES)
    smaller = [size for size in of.profile.block_sizes if size < grid.block_size]
    if smaller:
        why = f"{grid.block_size} weights share a scale"
        yield _quantize(of, "block_size", max(smaller), why, Cost.BYTES)
    budget = _budget(of, gates)
    if bits == 4 and budget is not None:
        key, bound = budget
        why = "the smallest bundle within that divergence: sensitive layers get finer grids"
        why += _furthest_off(of.layer_errors)
        yield Suggestion(
            f"quantize.{key}: {bound:g}",
            why,
            Cost.BYTES,
            {f"quantize.{key}": bound, **_alone(of)},
        )


def _budget(of: Situation, gates: set[str]) -> tuple[str, float] | None:
    """The divergence to ask for: the bound that was missed, or half of what cost the answers."""
    bounds = {one.gate: one.bound for one in of.missed}
    for gate in ("max_task_kl", "max_generic_kl"):
        bound = bounds.get(gate)
        if gate in gates and bound:
            return gate, bound
    if of.task_kl and gates & set(_SHARES):
        return "max_task_kl", float(f"{of.task_kl / 2:.1g}")
    return None


def _finer_targets(of: Situation) -> Iterator[Suggestion]:
    for profile in of.finer:
        own: dict[str, str | None] = {"like" if of.target.like else "name": profile.name}
        if profile.bits is None:
            # There are no integer products.
            own["accuracy_level"] = None
        why = f"weights as {profile.precision} instead of {of.profile.precision}"
        if profile.precision == "nf4":
            why = "keeps the 4-bit codes of training and loses nothing, but is slower"
        yield Suggestion(
            f"targets: {profile.name} in place of {of.target.like or of.target.name}",
            why,
            Cost.BYTES,
            {"targets": _targets(of, of.target.model_copy(update=own))},
        )


def _quantize(of: Situation, key: str, value: Any, why: str, cost: Cost) -> Suggestion:
    """A key of ``quantize``, or of the target's own section where that has the last word."""
    said = str(value).lower()
    level = key == "accuracy_level" and of.target.accuracy_level is not None
    if not level and getattr(of.target.quantize, key, None) is None:
        return Suggestion(f"quantize.{key}: {said}", why, cost, {f"quantize.{key}": value})
    place = "" if level else "quantize."
    own = (
        of.target.model_copy(update={key: value})
        if level
        else of.target.model_copy(
            update={"quantize": of.target.quantize.model_copy(update={key: value})}
        )
    )
    what = f"targets: {of.target.name}: {place}{key}: {said}"
    return Suggestion(what, why, cost, {"targets": _targets(of, own)})


def _targets(of: Situation, changed: Target) -> list[dict[str, Any]]:
    """The recipe's list of targets with this one changed."""
    return [_written(changed if one.name == of.target.name else one) for one in of.recipe.targets]


def _alone(of: Situation) -> dict[str, Any]:
    """The target without its neighbours, where it has any: a budget is for 4-bit targets alone."""
    return {"targets": [_written(of.target)]} if len(of.recipe.targets) > 1 else {}


def _written(target: Target) -> dict[str, Any]:
    written: dict[str, Any] = target.model_dump(mode="json", exclude_defaults=True)
    return written


def _furthest_off(errors: Sequence[float]) -> str:
    """The layers that rounding changed most, as the end of a sentence."""
    if not errors:
        return ""
    worst = sorted(range(len(errors)), key=lambda index: -errors[index])[:_NAMED_LAYERS]
    named = ", ".join(f"{index} ({errors[index]:.1%})" for index in worst)
    return f"; furthest off of what they add are layers {named}"
