"""The model that is trained: the base on its grid, and a fresh adapter of the chosen method on it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgepeft.adapters.base_init import Factors, changes_base, initial_factors, without
from edgepeft.adapters.keys import PREFIX
from edgepeft.adapters.method import TrainingMethod, no_bias
from edgepeft.adapters.patterns import check_patterns
from edgepeft.adapters.provenance import TrainingGrid
from edgepeft.adapters.shared_options import FEED_FORWARD
from edgepeft.checkpoints.base_stage import EncoderFacts
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.skeleton import (
    auto_class,
    head_modules,
    linear_weight_names,
    model_config,
)
from edgepeft.compat.bitsandbytes_repacking import keep_packing
from edgepeft.compat.bitsandbytes_weights import replace_weight
from edgepeft.config.sections import Method
from edgepeft.errors import InputError, one_line
from edgepeft.models.tasks import ENCODER_TASKS

_BLOCK = 64
"""Weights that share a scale where transformers lets bitsandbytes round them."""


@dataclass(frozen=True)
class Start:
    """The initial factors taken out of the base, by the name of the adapted weight."""

    factors: Mapping[str, Factors]
    scaling: float


def load_base_for_training(
    folder: Path, grid: TrainingGrid, compute: torch.dtype, whole: Sequence[str] = ()
) -> Any:
    """The base model in float32, its linear layers on ``grid``, ready for an adapter.

    4-bit layers multiply in ``compute``. ``whole`` names modules that stay off the grid. Raises InputError for
    blocks that transformers can't ask bitsandbytes for.
    """
    from transformers import BitsAndBytesConfig

    options: dict[str, Any] = {"dtype": torch.float32, "trust_remote_code": False}
    if torch.cuda.is_available():
        options["device_map"] = {"": torch.cuda.current_device()}
    if grid.kind == "int8":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=True, llm_int8_skip_modules=list(whole) or None
        )
    elif grid.kind != "none":
        if grid.block_size != _BLOCK:
            raise InputError(
                f"method: the base lies on {grid.kind} in blocks of {grid.block_size}, and only blocks of "
                f"{_BLOCK} can be trained on; use lora, whose base is dequantized"
            )
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=grid.kind,
            bnb_4bit_use_double_quant=grid.double_quant,
            bnb_4bit_compute_dtype=compute,
            llm_int8_skip_modules=list(whole) or None,
        )
    config = model_config(folder)
    model = auto_class(config).from_pretrained(folder, **options)
    model.config.use_cache = False
    keep_packing(model)
    return model


def off_grid(model: Any, quantized: Sequence[str]) -> tuple[str, ...]:
    """Linear layers of a base that came rounded, all but those whose weights are ``quantized``."""
    names = (name for name in linear_weight_names(model) if name not in set(quantized))
    return tuple(name.removesuffix(".weight") for name in names)


def quantized_weight_names(model: Any) -> list[str]:
    """Names of the weights that bitsandbytes holds on a grid; every other weight is as in the checkpoint."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    return [
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, (Linear4bit, Linear8bitLt))
    ]


def add_adapter(
    model: Any,
    method: TrainingMethod,
    settings: Method,
    grid: TrainingGrid,
    steps: int,
    facts: EncoderFacts | None = None,
) -> Any:
    """Wrap the base with a fresh adapter, or free all its weights. Raises InputError where the method won't fit.

    ``settings`` are the recipe's ``method`` section; ``facts`` are an encoder's, whose head trains whole.
    """
    from peft import get_peft_model, prepare_model_for_kbit_training
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    from edgepeft.adapters.bottleneck import register

    register()
    if method.peft_type is None:
        return model.requires_grad_(True)
    if grid.kind != "none":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    arguments = method.arguments(settings, steps)
    if changes_base(arguments.get("init_lora_weights")):
        # PEFT would round what is left of the weights in its own way; take_start does it in ours.
        arguments["init_lora_weights"] = True
    modules = _target_modules(model, method, settings.target_modules)
    if facts is not None:
        whole = whole_modules(model, facts)
        # PEFT adds the classifier itself, by either name.
        more = {*arguments.get("modules_to_save", ()), *whole} - {"classifier", "score"}
        if more:
            arguments["modules_to_save"] = sorted(more)
        if modules == "all-linear":
            modules = _adapted_layers(model, whole)
    if modules is not None:
        arguments["target_modules"] = modules
    if "feedforward_modules" in method.options and "feedforward_modules" not in arguments:
        arguments["feedforward_modules"] = [
            name for name in modules or () if name.rpartition(".")[2] in FEED_FORWARD
        ]
    if "modules_to_save" in arguments and model.config.tie_word_embeddings:
        _keep_tied(arguments, method)
    names = [name for name, _ in model.named_modules() if name]
    check_patterns(arguments, names, "method")
    task_type = "CAUSAL_LM" if facts is None else ENCODER_TASKS[facts.task].peft_type
    try:
        config = PEFT_TYPE_TO_CONFIG_MAPPING[method.peft_type](task_type=task_type, **arguments)
        adapted = get_peft_model(model, config)
        if arguments.get("lora_bias"):
            _refuse_no_bias(adapted)
        return adapted
    except (ValueError, TypeError, RuntimeError, IndexError, NotImplementedError) as error:
        key = "target_modules" if "target modules" in str(error).lower() else "options"
        raise InputError(f"method.{key}: {one_line(error)}") from None


def _refuse_no_bias(adapted: Any) -> None:
    """Raise InputError where a factor's bias would have none of the base to be merged into."""
    for name, layer in adapted.get_base_model().named_modules():
        if hasattr(layer, "lora_B") and layer.get_base_layer().bias is None:
            raise no_bias(name)


def whole_modules(model: Any, facts: EncoderFacts) -> tuple[str, ...]:
    """An encoder's modules that train whole: a classifier's head, and whatever was made afresh for the task."""
    if facts.outputs is None:
        return ()
    return tuple(sorted({*head_modules(model), *facts.new_modules}))


def kept_whole(model: Any, facts: EncoderFacts) -> tuple[str, ...]:
    """The full names of ``whole_modules``: transformers keeps none off a grid that lies deeper, as a pooler does,
    by its last name alone.
    """
    whole = whole_modules(model, facts)
    return tuple(name for name, _ in model.named_modules() if name.rpartition(".")[2] in whole)


def _adapted_layers(model: Any, whole: Sequence[str]) -> list[str]:
    """Every linear layer but those that train whole."""
    names = [name.removesuffix(".weight") for name in linear_weight_names(model)]
    return [name for name in names if not set(name.split(".")) & set(whole)]


def _keep_tied(arguments: dict[str, Any], method: TrainingMethod) -> None:
    named = {str(name).rpartition(".")[2] for name in arguments["modules_to_save"]}
    if named & {"embed_tokens", "lm_head"}:
        if "ensure_weight_tying" not in method.options:
            raise InputError(
                f"method.options.modules_to_save: this model's head is its embedding, and {method.name} can't "
                "keep them one; use lora or dora"
            )
        arguments.setdefault("ensure_weight_tying", True)


def _target_modules(
    model: Any, method: TrainingMethod, named: str | list[str]
) -> str | list[str] | None:
    """What to adapt, as PEFT takes it; None leaves the choice to PEFT."""
    if method.modules == "none":
        return None
    if named != "all-linear" or method.modules == "all-linear":
        return named
    if method.modules == "embedding":
        return None
    if method.modules == "norms":
        return [
            name for name, module in model.named_modules() if type(module).__name__.endswith("Norm")
        ]
    there = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    found = [name for name in method.modules if name in there]
    if not found:
        raise InputError(
            f"method.target_modules: this model has none of {', '.join(method.modules)}, which {method.name} "
            "adapts; name the modules"
        )
    return found


def take_start(
    adapted: Any,
    init: str,
    base: SafetensorsSource,
    grid: TrainingGrid,
    kept: Mapping[str, Factors] | None,
) -> Start:
    """Begin a LoRA at a part of the base's weights, and take that part out of the base. Works in place.

    ``kept`` are the factors of an earlier attempt at the same training, which goes on from them. Raises
    InputError for a rank that a weight does not have.
    """
    from peft.tuners.lora import LoraLayer

    factors: dict[str, Factors] = {}
    scaling = 1.0
    for path, layer in adapted.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        name = f"{path.removeprefix(PREFIX)}.weight"
        (active,) = layer.active_adapters
        scaling = float(layer.scaling[active])
        weight = base.load(name).to(torch.float32)
        if kept is None:
            found = initial_factors(init, weight, int(layer.r[active]), scaling, grid)
        else:
            found = kept[name]
        a, b = factors[name] = found
        device = layer.lora_A[active].weight.device
        layer.lora_A[active].weight.data = a.clone().to(device)
        layer.lora_B[active].weight.data = b.clone().to(device)
        replace_weight(layer.get_base_layer(), without(weight, a, scaling * b))
    return Start(factors, scaling)


def read_config(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of a checkpoint folder."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config
