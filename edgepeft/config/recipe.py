"""The recipe: every option of edgepeft, declared once.

The sections are the YAML keys, the ``--set`` paths of the command line, the JSON Schema and the fields of
any form. A field's description is its help text everywhere. Paths in a recipe are relative to the recipe file.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from edgepeft.bundle.layout import LayoutName
from edgepeft.config.sections import (
    AdapterPart,
    Answer,
    Combine,
    Data,
    FurtherAdapter,
    Merge,
    Method,
    Section,
)
from edgepeft.config.target_sections import Gates, Quantize, Target
from edgepeft.config.training_section import Training
from edgepeft.models.tasks import Task

CHOICE = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""What a choice of a matrix, which is a folder's name too, may be called."""


def _names_stand_for_mappings(schema: dict[str, Any]) -> None:
    """JSON Schema of a list of sections: the short form of an item, its name or path alone, is valid too."""
    for part in (schema, *schema.get("anyOf", ())):
        if "items" in part:
            part["items"] = {"anyOf": [{"type": "string"}, part["items"]]}


def _one_stands_for_a_list(schema: dict[str, Any]) -> None:
    """The same, and a single name for the list."""
    _names_stand_for_mappings(schema)
    listed = {key: schema.pop(key) for key in ("type", "items", "minItems")}
    schema["anyOf"] = [{"type": "string"}, listed]


Choices = (
    Annotated[list[Any], Field(min_length=1)]
    | Annotated[dict[Annotated[str, Field(pattern=CHOICE)], dict[str, Any]], Field(min_length=1)]
)
"""One axis of a matrix: values of the key that it is called after, or named choices that each set keys."""


class Recipe(Section):
    """From a model, data and targets to bundles with their proof."""

    model: str = Field(
        description="A folder, a .gguf file, a hub id as org/name or org/name@revision, or a name that `edgepeft "
        "models` lists."
    )
    task: Literal["auto", Task] = Field(
        "auto",
        description="The model's task; auto: from its head, for a bare encoder from the columns of the rows.",
    )
    data: Data = Field(default_factory=Data)
    adapter: str | list[AdapterPart] | None = Field(
        None,
        description="Use an existing PEFT adapter (a folder, or org/name@revision on the hub) instead of "
        "training one; or a list (adapters, or mappings with path and weight) to combine.",
        json_schema_extra=_names_stand_for_mappings,
    )
    adapters: list[FurtherAdapter] = Field(
        default_factory=list,
        description="Further adapters for hot-swap targets, each measured against its own unmerged reference.",
    )
    combine: Combine = Field(default_factory=Combine)
    method: Method = Field(default_factory=Method)
    training: Training = Field(default_factory=Training)
    merge: Merge = Field(default_factory=Merge)
    quantize: Quantize = Field(default_factory=Quantize)
    targets: list[Target] = Field(
        default_factory=lambda: [Target(name="cpu-int4")],
        min_length=1,
        description="Devices to build for: names, or mappings with a name.",
        json_schema_extra=_one_stands_for_a_list,
    )
    layout: LayoutName = Field(
        "all",
        description="Runtimes that the bundles are for: all; or genai, transformers.js or onnxruntime (optimum "
        "too), without the files that only other runtimes read.",
    )
    answer: Answer = Field(default_factory=Answer)
    gates: Gates = Field(default_factory=Gates)
    matrix: dict[str, Choices] = Field(
        default_factory=dict,
        description="Values to vary: every combination is built for every target, as one cell each. An axis is a "
        "key with its values, as method.rank: [8, 16], or a name of yours with choices that set keys, as "
        "customer: {acme: {data.train: acme.jsonl}, zeta: {adapter: ./zeta}}.",
    )

    @field_validator("adapter", mode="before")
    @classmethod
    def _paths_are_parts(cls, value: Any) -> Any:
        """``adapter: [a, b]`` is short for ``adapter: [{path: a}, {path: b}]``."""
        if isinstance(value, list):
            return [{"path": item} if isinstance(item, str) else item for item in value]
        return value

    @field_validator("targets", mode="before")
    @classmethod
    def _names_are_targets(cls, value: Any) -> Any:
        """``targets: [cpu-int4]`` is short for ``targets: [{name: cpu-int4}]``."""
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list):
            return [{"name": item} if isinstance(item, str) else item for item in value]
        return value

    @model_validator(mode="after")
    def _adapter_or_training(self) -> Recipe:
        """Nothing is trained where an adapter is given, so method and training have nothing to say."""
        if self.adapter is not None:
            given = sorted({"method", "training"} & self.model_fields_set)
            if given:
                named = " and ".join(f"`{key}`" for key in given)
                raise ValueError(f"remove {named}: an adapter is given")
        if not isinstance(self.adapter, list) and self.combine != Combine():
            raise ValueError(
                "remove `combine`: it is for a list of adapters, and adapter is no list"
            )
        for key, names in (
            ("targets", [target.name for target in self.targets]),
            ("adapters", [adapter.name for adapter in self.adapters]),
        ):
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise ValueError(f"{key} names {twice[0]} twice; remove one")
        if self.adapters and all(target.adapters == "merged" for target in self.targets):
            raise ValueError(
                "adapters: are for hot-swap targets, and no target has adapters: hot-swap; add it to a target"
            )
        for axis in ("targets", "matrix"):
            if axis in self.matrix:
                raise ValueError(
                    f"matrix.{axis}: every cell is built for every target; list them under targets instead"
                    if axis == "targets"
                    else "matrix.matrix: a matrix can't contain a matrix"
                )
        return self


def promised(recipe: Recipe) -> Gates:
    """The gates, with what a budget in nats promises besides: what was chosen by it must keep it.

    How much an adapter gained is a gate of whoever trains it, by supervision: what exists may be for another task
    than these rows, and preferences are no likelihood.
    """
    gates = recipe.gates
    trained = recipe.adapter is None and recipe.training.objective != "preference"
    if not trained and "min_reference_gain" not in gates.model_fields_set:
        gates = gates.model_copy(update={"min_reference_gain": None})
    for key in ("max_task_kl", "max_generic_kl"):
        budget, bound = getattr(recipe.quantize, key), getattr(gates, key)
        if budget is not None:
            kept = budget if bound is None else min(budget, bound)
            gates = gates.model_copy(update={key: kept})
    return gates
