"""What an adapter method is: a declaration of what it trains, with which hyperparameters, on which grids."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from edgepeft.errors import InputError, unknown_name

if TYPE_CHECKING:
    from edgepeft.config.sections import Method

Grid = Literal["nf4", "fp4", "int8", "none"]
GRIDS: tuple[Grid, ...] = ("none", "nf4", "fp4", "int8")
Carried = Literal["weights", "tokens", "prefix", "layers"]
"""How a bundle carries what a method learned: merged into weights, as virtual tokens before every prompt, as the
keys and values of such tokens, or as layers of its own in the graph."""
COMMON = ("rank", "alpha", "dropout")
"""The settings of the recipe that several methods have, under whatever name PEFT gives them."""


@dataclass(frozen=True)
class Option:
    """A hyperparameter under PEFT's name: the types a recipe may give it, and what it does."""

    types: tuple[type, ...]
    help: str
    choices: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None

    def refusal(self, value: Any) -> str | None:
        """Why ``value`` won't do, or None."""
        right = isinstance(value, self.types) and (
            bool in self.types or not isinstance(value, bool)
        )
        if not right:
            return f"must be {' or '.join(_TYPE_NAMES[t] for t in self.types)}"
        if isinstance(value, float) and not math.isfinite(value):
            return "must be a finite number"
        if self.choices and isinstance(value, str) and value not in self.choices:
            return f"must be one of {', '.join(self.choices)}"
        if self.least is not None and value < self.least:
            return f"must be {self.least} or more"
        if self.most is not None and value > self.most:
            return f"must be {self.most} or less"
        return None


_TYPE_NAMES: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
}


@dataclass(frozen=True)
class TrainingMethod:
    """One way to adapt a model.

    ``peft_type`` names PEFT's method, None for full fine-tuning. ``grid`` is that of the frozen base unless the
    recipe says otherwise, one of ``grids``. ``names`` maps our common settings to PEFT's; ``defaults`` are their
    values where the recipe is silent. ``options`` are further hyperparameters, ``fixed`` what is always passed.
    ``modules`` are the modules adapted where the recipe says ``all-linear``: those themselves, the norms, the
    embedding (left to PEFT), the ones with these names, or none that could be named. ``carried`` says what a
    bundle keeps of it. ``paced`` makes arguments of PEFT's out of the common settings and the number of steps.
    ``hooks`` name a class of ``training.hooks`` as ``package.module:name``, imported where it trains.
    """

    name: str
    summary: str
    peft_type: str | None
    grid: Grid = "none"
    grids: tuple[Grid, ...] = GRIDS
    names: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Option] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    modules: Literal["all-linear", "norms", "embedding", "none"] | tuple[str, ...] = "all-linear"
    carried: Carried = "weights"
    paced: Callable[[Mapping[str, float], int], Mapping[str, Any]] | None = None
    hooks: str | None = None

    @property
    def low_rank(self) -> bool:
        """Whether it learns a pair of factors of its rank for each adapted weight."""
        return self.peft_type in ("LORA", "ADALORA")

    def common(self, settings: Method) -> dict[str, float]:
        """Values of the common settings that this method has, under our names."""
        values = {key: getattr(settings, key) for key in self.names}
        return {
            key: self.defaults[key] if value is None else value for key, value in values.items()
        }

    def chosen_grid(self, settings: Method) -> Grid:
        """The grid that the base lies on while this method trains."""
        return self.grid if settings.grid == "auto" else settings.grid

    def check(self, settings: Method) -> None:
        """Hold the recipe's ``method`` section against this declaration. Raises InputError."""
        for key in COMMON:
            if getattr(settings, key) is not None and key not in self.names:
                has = f"; it has {', '.join(self.names)}" if self.names else ""
                raise InputError(f"method.{key}: {self.name} has no {key}{has}")
        grid = self.chosen_grid(settings)
        if grid not in self.grids:
            raise InputError(
                f"method.grid: {self.name} does not support grid {grid}; choose one of {', '.join(self.grids)}"
            )
        for key, value in settings.options.items():
            if key not in self.options:
                raise unknown_name("method.options", f"{self.name} option", key, self.options)
            problem = self.options[key].refusal(value)
            if problem:
                raise InputError(f"method.options.{key}: {problem} (got {value!r})")
        if self.modules == "none" and settings.target_modules != "all-linear":
            raise InputError(f"method.target_modules: {self.name} adapts no modules; leave it out")
        if "prompt_tuning_init" in self.options:
            _check_prompt_start({**self.fixed, **settings.options})
        if self.options.get("init_lora_weights"):
            _check_start({**self.fixed, **settings.options}, grid)

    def arguments(self, settings: Method, steps: int) -> dict[str, Any]:
        """Keyword arguments of PEFT's configuration, target modules aside; ``steps`` the training takes."""
        common = {self.names[key]: value for key, value in self.common(settings).items()}
        paced = {} if self.paced is None else self.paced(self.common(settings), steps)
        return {**paced, **self.fixed, **common, **settings.options}


def trains_rows(method: TrainingMethod, options: Mapping[str, Any]) -> bool:
    """Whether a method can train the embedding's rows of new tokens."""
    return (
        method.peft_type is None
        or method.modules == "embedding"
        or "trainable_token_indices" in method.options
        or "embed_tokens" in options.get("modules_to_save", [])
    )


def no_bias(module: str) -> InputError:
    """The error for a factor's bias beside a ``module`` that has none to merge it into."""
    return InputError(
        f"method.options.lora_bias: {module} has no bias to merge it into; name modules that have one as "
        "method.target_modules"
    )


def _check_prompt_start(options: Mapping[str, Any]) -> None:
    """A prompt that begins as a text needs the text, and any other start has no use for one."""
    of_text = options["prompt_tuning_init"] == "TEXT"
    if of_text and not options.get("prompt_tuning_init_text"):
        raise InputError(
            "method.options.prompt_tuning_init: TEXT begins with a text; give it as prompt_tuning_init_text"
        )
    if not of_text and "prompt_tuning_init_text" in options:
        raise InputError(
            "method.options.prompt_tuning_init_text: is read with prompt_tuning_init: TEXT alone; set that too"
        )


def _check_start(options: Mapping[str, Any], grid: Grid) -> None:
    """Starts that decompose the base: what goes with them and what doesn't."""
    if options.get("lora_bias") and options.get("use_dora"):
        raise InputError("method.options: lora_bias and use_dora exclude each other; leave one out")
    if options.get("target_parameters") and grid != "none":
        raise InputError(
            "method.options.target_parameters: PEFT can't adapt parameters of a quantized base; set method.grid: "
            "none"
        )
    if grid == "int8" and options.get("use_dora"):
        raise InputError("method.grid: PEFT can't train DoRA on int8; choose nf4, fp4 or none")
    init = options.get("init_lora_weights", True)
    if init == "loftq" and grid == "none":
        raise InputError(
            "method.options.init_lora_weights: loftq needs a quantized base; set method.grid"
        )
    if init in ("olora", "loftq") or str(init).startswith("pissa"):
        if options.get("use_dora"):
            raise InputError(
                f"method.options: init_lora_weights: {init} and use_dora exclude each other; leave one out"
            )
        if options.get("rank_pattern") or options.get("alpha_pattern"):
            raise InputError(
                f"method.options: init_lora_weights: {init} needs one rank for all modules; drop the patterns"
            )
