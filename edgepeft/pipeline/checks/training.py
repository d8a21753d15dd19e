"""What of method and training does not go together."""

from __future__ import annotations

from collections.abc import Sequence

from edgepeft.adapters.base_parts import trains_biases
from edgepeft.adapters.fit import refuse_stacked, unknown_modules
from edgepeft.adapters.method import no_bias, trains_rows
from edgepeft.adapters.methods import check_method
from edgepeft.adapters.tables import HEADS, has_head_bias, is_embedding, is_table
from edgepeft.adapters.trained_tables import check_tables, trained_tables
from edgepeft.errors import InputError
from edgepeft.models.names import of_gguf
from edgepeft.models.tasks import GENERATION
from edgepeft.pipeline.resolved import ResolvedRecipe
from edgepeft.tracking.tracker import require_trackers
from edgepeft.training.precision import FLOAT32_ALONE

_PLAIN_STARTS = ("gaussian", "orthogonal")


def check_method_of(resolved: ResolvedRecipe) -> None:
    """``method``: options that its method has not."""
    if resolved.method is not None:
        settings = resolved.recipe.method
        check_method(settings)
        check_tables(
            resolved.method,
            settings.target_modules,
            settings.options,
            grid=resolved.method.chosen_grid(settings),
            new_tokens=bool(resolved.recipe.data.tokens),
        )
        for key, parameters in (
            ("options.target_parameters", settings.options.get("target_parameters") or ()),
            ("target_modules", [f"{name}.weight" for name in _listed(settings.target_modules)]),
        ):
            refuse_stacked(parameters, resolved.given, f"method.{key}")
        _refuse_unknown_modules(resolved)
        found = trained_tables(resolved.method, settings.target_modules)
        if any(name in HEADS for name in found) and has_head_bias(resolved.given.tensors):
            raise InputError(
                f"method.target_modules: the head of {resolved.given.architecture} has a bias; factors beside it "
                "are not supported; leave lm_head out, or train it whole (method.options.modules_to_save)"
            )
        if settings.options.get("lora_bias"):
            _refuse_no_bias(settings.target_modules, resolved)


def _refuse_unknown_modules(resolved: ResolvedRecipe) -> None:
    """Raise InputError where no name of ``method.target_modules`` is one of the model's modules."""
    named = _listed(resolved.recipe.method.target_modules)
    if not named or resolved.task != GENERATION:
        return
    if len(unknown_modules(named, resolved.given)) == len(named):
        modules = [module for module, _ in resolved.given.matrices]
        layers = (name.rpartition(".")[2] for name in of_gguf(modules) or modules)
        there = dict.fromkeys(name for name in layers if not is_table(name))
        raise InputError(
            f"method.target_modules: the model has no module {', '.join(named)}; its linear layers are "
            f"{', '.join(there)}"
        )


def _refuse_no_bias(targets: str | Sequence[str], resolved: ResolvedRecipe) -> None:
    """Raise InputError where a factor's bias would have none of the base to be merged into.

    Which modules an expression means, and which are left out, training alone knows, and which tensors of an
    encoder are linear layers.
    """
    options = resolved.recipe.method.options
    if options.get("exclude_modules") or options.get("layers_to_transform") is not None:
        return
    everywhere = targets == "all-linear" and resolved.task == GENERATION
    named = () if isinstance(targets, str) else targets
    for module, _ in resolved.given.matrices:
        last = module.rpartition(".")[2]
        meant = not is_table(last) and (everywhere or last in named)
        if meant and f"{module}.bias" not in resolved.given.tensors:
            raise no_bias(module)


def _listed(targets: str | Sequence[str]) -> Sequence[str]:
    return () if isinstance(targets, str) else targets


def check_own_grid(resolved: ResolvedRecipe) -> None:
    """``method``: one that rounds a base that came rounded in another way."""
    model, method = resolved.given, resolved.method
    if method is None or not model.on_own_grid:
        return
    grid = method.chosen_grid(resolved.recipe.method)
    if grid != "none":
        raise InputError(
            f"method.name: {method.name} rounds the base to {grid}, and its weights are {model.quantization}'s "
            "already; use lora, or set method.grid: none, which trains on them as they are"
        )


def check_new_tokens(resolved: ResolvedRecipe) -> None:
    """``data.tokens``: new tokens whose embeddings nothing trains."""
    recipe, method = resolved.recipe, resolved.method
    if method is None or not recipe.data.tokens:
        return
    if not trains_rows(method, recipe.method.options):
        raise InputError(
            f"data.tokens: {method.name} does not train the embeddings of new tokens; use lora, qlora, dora or "
            "trainable_tokens, or add embed_tokens to method.options.modules_to_save"
        )


def check_trackers(resolved: ResolvedRecipe) -> None:
    """``training.report_to``: trackers that are not installed."""
    if resolved.trains:
        require_trackers(resolved.recipe.training.report_to)


def check_compute_dtype(resolved: ResolvedRecipe) -> None:
    """``training.compute_dtype``: bfloat16, in a model that can't be trained in it."""
    kind = resolved.given.config.get("model_type")
    if resolved.recipe.training.compute_dtype == "bfloat16" and kind in FLOAT32_ALONE:
        raise InputError(
            f"training.compute_dtype: {resolved.given.architecture} can't be trained in bfloat16; use auto or "
            "float32"
        )


def check_preference(resolved: ResolvedRecipe) -> None:
    """``training.objective``: preference, which compares with the base as it is."""
    recipe, method = resolved.recipe, resolved.method
    if method is None or recipe.training.objective != "preference":
        return
    start = recipe.method.options.get("init_lora_weights")
    if method.peft_type != "LORA" or (isinstance(start, str) and start not in _PLAIN_STARTS):
        raise InputError(
            "training.objective: preference needs the unchanged base model as its reference; use lora, qlora, "
            "rslora or dora with their default init_lora_weights"
        )
    if trains_biases(recipe.method.options):
        raise InputError(
            "training.objective: preference needs the unchanged base model as its reference; leave "
            "method.options.bias out"
        )
    tables = trained_tables(method, recipe.method.target_modules)
    if any(not is_embedding(name) for name in tables) or (
        tables and recipe.method.options.get("ensure_weight_tying")
    ):
        raise InputError(
            "training.objective: preference reads the head's own weight; leave the head out of "
            "method.target_modules"
        )
