"""The registry of adapter methods: what each trains, and on which grid the base lies meanwhile.

Adding a method is one entry here (or one entry point in the group ``edgepeft.methods``); the command line, the
schema and the plan show it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Literal

from edgepeft.errors import unknown_name


@dataclass(frozen=True)
class TrainingMethod:
    """One way to adapt a model.

    ``grid`` is the grid of the frozen base (``nf4``, ``fp4`` or ``none``); ``peft_config`` turns the recipe's
    ``method`` section (as a mapping) into PEFT's configuration, importing PEFT only then.
    """

    name: str
    summary: str
    grid: Literal["nf4", "fp4", "none"]
    peft_config: Callable[[Mapping[str, Any]], Any]


def _lora(settings: Mapping[str, Any]) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=settings["rank"],
        lora_alpha=settings["alpha"],
        lora_dropout=settings["dropout"],
        target_modules=settings["target_modules"],
        task_type="CAUSAL_LM",
    )


_BUILTIN = (
    TrainingMethod(
        name="qlora",
        summary="LoRA on a base held in 4-bit NF4, double-quantized",
        grid="nf4",
        peft_config=_lora,
    ),
    TrainingMethod(
        name="lora",
        summary="LoRA on the base at full precision",
        grid="none",
        peft_config=_lora,
    ),
)


def all_methods() -> Mapping[str, TrainingMethod]:
    """Every registered method by name."""
    found = {method.name: method for method in _BUILTIN}
    for point in entry_points(group="edgepeft.methods"):
        method: TrainingMethod = point.load()
        found[method.name] = method
    return found


def find_method(name: str) -> TrainingMethod:
    """A method by name. Raises InputError that lists the methods there are."""
    methods = all_methods()
    if name not in methods:
        raise unknown_name("method.name", "method", name, methods)
    return methods[name]
