"""The registry of adapter methods: what each trains, with which hyperparameters, and on which grids.

A method is a declaration (``peft_methods.py`` and ``further_methods.py``; ``unmerged_methods.py`` for those that
change no weights), not code: PEFT's own type, what PEFT calls our common settings, and its further
hyperparameters under PEFT's names. Their types restate what PEFT's configurations say, for reading those imports
torch; a test holds the two together. Adding a method is an entry there, or an entry point in the group
``edgepeft.methods``; the command line, the schema and the plan show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from edgepeft.adapters import further_methods, peft_methods, unmerged_methods
from edgepeft.adapters.method import TrainingMethod
from edgepeft.errors import InputError, unknown_name

if TYPE_CHECKING:
    from edgepeft.config.sections import Method


def method_of_type(peft_type: str) -> TrainingMethod | None:
    """A registered method by PEFT's name of its type; None where no method has it."""
    return next((m for m in all_methods().values() if m.peft_type == peft_type), None)


@cache
def all_methods() -> Mapping[str, TrainingMethod]:
    """Every registered method by name."""
    declared = (*peft_methods.METHODS, *further_methods.METHODS, *unmerged_methods.METHODS)
    found = {method.name: method for method in declared}
    for point in entry_points(group="edgepeft.methods"):
        method: TrainingMethod = point.load()
        found[method.name] = method
    return found


def find_method(name: str) -> TrainingMethod:
    """A method by name. Raises InputError that lists the methods there are, or says why one can't be had."""
    methods = all_methods()
    refusal = NOT_MERGEABLE.get(name.upper().replace("-", "_"))
    if name not in methods and refusal:
        raise InputError(f"method.name: {refusal}")
    if name not in methods:
        raise unknown_name("method.name", "method", name, methods)
    return methods[name]


def check_method(settings: Method) -> TrainingMethod:
    """The method of a recipe's ``method`` section, held against its declaration. Raises InputError."""
    method = find_method(settings.name)
    method.check(settings)
    return method


def _instead(what: str, alternatives: Sequence[str]) -> str:
    return f"{what} can't be merged into the weights, so no bundle carries it yet; {', '.join(alternatives)} can"


def _from_base(what: str) -> str:
    return (
        f"{what} is worked out of the base's weights whenever it is loaded, so it can't be merged one tensor at "
        "a time yet; merge it with PEFT and hand in the merged model, or train lora, oft or hra"
    )


_SMALL = ("prompt_tuning", "prefix_tuning", "lora with a small rank", "ia3")

NOT_MERGEABLE: Mapping[str, str] = {
    "MULTITASK_PROMPT_TUNING": _instead("multitask prompt tuning", _SMALL),
    "ADAPTION_PROMPT": _instead("an adaption prompt", _SMALL),
    "CARTRIDGE": _instead("a cartridge", _SMALL),
    "CPT": _instead("context-aware prompt tuning", _SMALL),
    "XLORA": _instead("X-LoRA, which mixes adapters by its input,", ("lora", "edgepeft combine")),
    "POLY": _instead("Poly, which routes by task,", ("lora", "edgepeft combine")),
    "LILY": _instead("Lily, which routes by its input,", ("lora", "vera")),
    "SHADOW": _instead("Shadow, a network beside the model,", ("lora", "dora")),
    "BEFT": "BEFT adds biases where the model has none, and its graph has no place for them; ia3 does not",
    "FROD": _from_base("FRoD"),
    "SHIRA": _from_base("SHiRA"),
    "OSF": _from_base("OSF"),
    "PSOFT": _from_base("PSOFT"),
    "UNILORA": _from_base("UniLoRA"),
    "ADAMSS": _from_base("AdaMSS"),
    "PEANUT": _instead("Peanut, which is not linear,", ("lora", "dora")),
}
"""PEFT's types that change more than weights, with the reason in one line."""
