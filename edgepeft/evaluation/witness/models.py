"""Models for the second witness, made by transformers, bitsandbytes and PEFT alone.

No reader, name table or merge of ours takes part; what is passed in are paths, the grid that an adapter was
trained on and, for adapters made by edgepeft, the names of the weights that were on it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from edgepeft.errors import EdgepeftError, one_line
from edgepeft.evaluation.witness.published import float_weights

MergeBase = Literal["dequantized", "original", "requantized"]
_INITIAL = "edgepeft_initial.safetensors"


@dataclass(frozen=True)
class Sources:
    """Where a model comes from.

    ``model`` is a folder or a GGUF file, ``adapter`` an adapter's folder or that of a whole tuned model.
    ``grid`` has bitsandbytes' ``kind``, ``block_size`` and ``double_quant``; ``quantized`` names the weights
    that were on it, None for those that transformers would choose. ``of_reference`` says whether that is the
    reference's base. ``rows`` is the height of the embedding where it was made higher. ``labels`` is the
    number of a classifier's labels. ``quantization`` is the format that ``model`` is published in, None where it
    is not rounded. ``alone`` is transformers' class of the language model inside a larger one, None where
    ``model`` is none.
    """

    model: Path
    adapter: Path
    whole: bool
    merge_base: MergeBase
    grid: Mapping[str, Any]
    quantized: Sequence[str] | None
    of_reference: bool = True
    rows: int | None = None
    auto_class: str = "AutoModelForCausalLM"
    labels: int | None = None
    quantization: str | None = None
    alone: str | None = None


def load_adapted(sources: Sources) -> Any:
    """The model that the recipe means, in float32 and eval mode, its adapter unmerged.

    With ``merge_base`` requantized the adapter is merged by PEFT and the result rounded to the grid once more, as
    PEFT's own merge into a quantized base does it. Raises EdgepeftError where a library can't load it.
    """
    try:
        return _load(sources)
    except (ValueError, KeyError, OSError, RuntimeError, TypeError, AttributeError) as error:
        raise EdgepeftError(
            f"the second witness can't load {sources.model} with {sources.adapter}: {one_line(error)}"
        ) from error


def _load(sources: Sources) -> Any:
    import transformers
    from peft import PeftModel

    from edgepeft.adapters.bottleneck import register

    if sources.whole:
        loader = getattr(transformers, sources.auto_class)
        return loader.from_pretrained(sources.adapter, dtype=torch.float32).eval()
    on_grid = sources.grid["kind"] != "none" and sources.merge_base != "original"
    initial = _initial_factors(sources.adapter)
    if sources.quantization is not None:
        model, names = _published(sources)
        _take_out(model, initial)
        if on_grid and initial:
            _round(model, names, sources.grid)
    elif on_grid and _plainly(sources, initial):
        quantization = _quantization(sources.grid)
        model, names = _dequantized(_from_pretrained(sources, quantization_config=quantization))
    else:
        model = _from_pretrained(sources)
        names = set(_linear_names(model) if sources.quantized is None else sources.quantized)
        _take_out(model, initial)
        if on_grid:
            _round(model, names, sources.grid)
    if sources.quantized is not None and on_grid and names != set(sources.quantized):
        raise EdgepeftError(
            f"{sources.adapter}: was trained with other weights quantized than transformers quantizes"
        )
    register()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = PeftModel.from_pretrained(model, str(sources.adapter))
    if sources.merge_base == "requantized":
        _untie(adapted)
        adapted = adapted.merge_and_unload()
        _round(adapted, names, sources.grid)
    return adapted.eval()


def _untie(adapted: Any) -> None:
    """Give a head that is the embedding's own tensor one of its own, so that a merge adds to each what is its."""
    base = adapted.get_base_model()
    tables = (base.get_output_embeddings(), base.get_input_embeddings())
    head, embedding = (getattr(table, "base_layer", table) for table in tables)
    if head is not None and head.weight is embedding.weight:
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)


def _from_pretrained(sources: Sources, **options: Any) -> Any:
    import transformers

    loader = getattr(transformers, sources.auto_class)
    options |= {"dtype": torch.float32, "trust_remote_code": False, "local_files_only": True}
    if sources.labels is not None:
        options["num_labels"] = sources.labels
        options["ignore_mismatched_sizes"] = True
    if sources.model.is_file():
        model = loader.from_pretrained(
            sources.model.parent, gguf_file=sources.model.name, **options
        )
    else:
        where: Path | None = sources.model
        if "state_dict" in options:
            # Weights that are handed over are not looked for in a folder, by which alone a class is chosen.
            with torch.device("meta"):
                loader = type(loader.from_config(options["config"]))
            where = None
        model = loader.from_pretrained(where, **options)
    if sources.alone is not None:
        model = language_model_inside(model, getattr(transformers, sources.alone))
    if sources.rows is not None and sources.rows != model.get_input_embeddings().num_embeddings:
        _grow(model, sources.rows)
    return model


def _published(sources: Sources) -> tuple[Any, set[str]]:
    """A model that came rounded, as float32, and the names of the weights that lie on a grid of bitsandbytes."""
    if sources.quantization == "bitsandbytes":
        return _dequantized(_from_pretrained(sources))
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(sources.model, trust_remote_code=False)
    del config.quantization_config
    return _from_pretrained(sources, config=config, state_dict=float_weights(sources.model)), set()


def language_model_inside(larger: Any, kind: Any) -> Any:
    """The language model that a larger one runs, with its head, in transformers' class ``kind`` of it."""
    # Its own type of configuration may be none that this class knows; what computes is the larger model's part.
    config = kind.config_class.from_dict(larger.config.get_text_config().to_dict())
    with torch.device("meta"):
        model = kind(config)
    names = ("language_model", "text_model")
    body = next(getattr(larger.model, name) for name in names if hasattr(larger.model, name))
    setattr(model, model.base_model_prefix, body)
    model.lm_head = larger.lm_head
    return model.eval()


def _plainly(sources: Sources, initial: Mapping[str, torch.Tensor]) -> bool:
    """Whether transformers' own quantized loading makes the base that the adapter was trained on."""
    return (
        not initial
        and sources.model.is_dir()
        and sources.rows is None
        and int(sources.grid["block_size"]) == _BLOCK
        and sources.auto_class == "AutoModelForCausalLM"
    )


_BLOCK = 64
"""Weights of a block where bitsandbytes is not told otherwise, as transformers can't."""


def _quantization(grid: Mapping[str, Any]) -> Any:
    from transformers import BitsAndBytesConfig

    if grid["kind"] == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=grid["kind"],
        bnb_4bit_use_double_quant=grid["double_quant"],
        bnb_4bit_compute_dtype=torch.float32,
    )


def _dequantized(model: Any) -> tuple[Any, set[str]]:
    """A model that transformers loaded rounded, as float32, and the names of the weights that were."""
    modules = {f"{name}.weight": m for name, m in model.named_modules() if _on_grid(m)}
    for module in modules.values():
        if (state := getattr(module.weight, "quant_state", None)) is not None:
            # Else codes times scales would be rounded to the type that the model was saved in.
            state.dtype = torch.float32
    return model.dequantize(dtype=torch.float32).to(torch.float32), set(modules)


def _on_grid(module: nn.Module) -> bool:
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    return isinstance(module, (Linear4bit, Linear8bitLt))


def _linear_names(model: Any) -> list[str]:
    """What transformers quantizes of a model that generates: every linear layer but the head."""
    head = model.get_output_embeddings()
    return [
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    ]


def _round(model: Any, names: Iterable[str], grid: Mapping[str, Any]) -> None:
    """Put weights through bitsandbytes' own grid and back, in place."""
    from bitsandbytes import functional

    for name in names:
        weight = model.get_parameter(name)
        value = weight.data.to(torch.float32).contiguous()
        if grid["kind"] == "int8":
            codes, scales, _ = functional.int8_vectorwise_quant(value.to(torch.float16))
            rounded = functional.int8_vectorwise_dequant(codes, scales)
        else:
            codes, state = functional.quantize_4bit(
                value,
                blocksize=int(grid["block_size"]),
                compress_statistics=bool(grid["double_quant"]),
                quant_type=grid["kind"],
            )
            rounded = functional.dequantize_4bit(codes, state)
        weight.data = rounded.reshape(weight.shape).to(torch.float32)


def _initial_factors(adapter: Path) -> dict[str, torch.Tensor]:
    """What an adapter's start took out of the base, where a file beside the adapter keeps it."""
    from safetensors.torch import load_file

    path = adapter / _INITIAL
    return dict(load_file(path)) if path.is_file() else {}


def _take_out(model: Any, initial: Mapping[str, torch.Tensor]) -> None:
    for key in [key for key in initial if key.endswith(".a")]:
        name = key.removesuffix(".a")
        weight = model.get_parameter(name)
        weight.data = weight.data - initial[f"{name}.b"].float() @ initial[key].float()


def _grow(model: Any, rows: int) -> None:
    """More rows of embedding and head, each the mean of those there were, as new tokens begin."""
    before = model.get_input_embeddings().num_embeddings
    model.resize_token_embeddings(rows, mean_resizing=False)
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        if module is not None:
            module.weight.data[before:] = module.weight.data[:before].mean(dim=0)
            if getattr(module, "bias", None) is not None:
                module.bias.data[before:] = module.bias.data[:before].mean()


def adapter_config(folder: Path) -> dict[str, Any]:
    """What PEFT wrote of an adapter; nothing for a whole tuned model."""
    path = folder / "adapter_config.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found
