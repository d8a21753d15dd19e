"""What an adapter's configuration says, checked without loading torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepeft.adapters.config_fields import BIASES, check_fields
from edgepeft.adapters.folder import CONFIG, WEIGHTS, find_adapter
from edgepeft.adapters.method import Carried
from edgepeft.adapters.methods import NOT_MERGEABLE, all_methods, method_of_type
from edgepeft.adapters.provenance import FILE, read_provenance
from edgepeft.errors import InputError, unknown_name
from edgepeft.utils.files import read_json_object, require_regular

CONFIG_BYTES = 16 * 10**6
"""Bytes that an adapter's configuration may have."""
INITIAL = "edgepeft_initial.safetensors"
"""Factors that an adapter's start took out of the base, beside the adapter."""
KEEPS_BASE = ("gaussian", "orthogonal", "eva", "mica")
"""Starts of PEFT that leave the base's weights as they are."""
ALLOW = "name the right model, or go on at your own risk with --allow-base-mismatch"
"""The mend for an adapter of another base."""
MAX_RANK = 4096
MAX_VIRTUAL_TOKENS = 4096


def refuse_embedding(peft_type: str | None, modules: object, where: str) -> None:
    """Raise InputError where a method is to adapt the embedding that has no factors for one."""
    named = modules if isinstance(modules, (list, tuple, set)) else [modules]
    if peft_type in ("LORA", "TRAINABLE_TOKENS", None):
        return
    for module in named:
        if isinstance(module, str) and module.rpartition(".")[2] == "embed_tokens":
            raise InputError(
                f"{where}: {peft_type} can't adapt {module}; leave it out, or use LoRA"
            )


def carried_as(config: Mapping[str, Any]) -> Carried:
    """How a bundle carries what an adapter with this configuration learned."""
    method = method_of_type(config["peft_type"])
    return "weights" if method is None else method.carried


def is_full(folder: Path) -> bool:
    """Whether a folder holds the whole model that a full fine-tuning left, and no adapter."""
    return (folder / FILE).is_file() and read_provenance(folder).method == "full"


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """Read ``adapter_config.json`` and refuse what can be seen to be wrong there. Raises InputError."""
    place = find_adapter(folder)
    if place != folder:
        raise InputError(f"{folder}: holds checkpoints of an adapter; name one, as {place}")
    if is_full(folder):
        base = read_provenance(folder).base or {}
        return {"peft_type": "FULL", "base_model_name_or_path": base.get("name")}
    path = folder / CONFIG
    config = read_json_object(path, CONFIG_BYTES)
    if "peft_type" not in config:
        raise InputError(f"{path}: has no peft_type")
    _refuse_method(config["peft_type"], path)
    _refuse_no_weights(folder)
    check_fields(config, path)
    if config.get("bias", "none") not in BIASES:
        raise InputError(
            f"{path}: bias: {config['bias']} is not supported; {', '.join(BIASES)} are"
        )
    refuse_embedding(config["peft_type"], config.get("target_modules"), f"{path}: target_modules")
    _refuse_scales(config, path)
    if carried_as(config) in ("tokens", "prefix"):
        _refuse_prompt(config, path)
    return config


def _refuse_no_weights(folder: Path) -> None:
    if (folder / WEIGHTS).is_file():
        return
    require_regular(folder / WEIGHTS)
    if (folder / "adapter_model.bin").exists():
        raise InputError(
            f"{folder}: holds only pickle weights (adapter_model.bin), which can run code; save the adapter as "
            f"{WEIGHTS}"
        )
    raise InputError(f"{folder}: has no {WEIGHTS}")


def _refuse_method(peft_type: object, path: Path) -> None:
    known = {m.peft_type for m in all_methods().values() if m.peft_type is not None}
    if peft_type in known:
        return
    if isinstance(peft_type, str) and peft_type in NOT_MERGEABLE:
        raise InputError(f"{path}: {NOT_MERGEABLE[peft_type]}")
    raise unknown_name(f"{path}: peft_type", "supported method", str(peft_type), sorted(known))


def _refuse_prompt(config: Mapping[str, Any], path: Path) -> None:
    """Prompts of other kinds of models, and numbers of virtual tokens that are none."""
    count = config.get("num_virtual_tokens")
    if not isinstance(count, int) or isinstance(count, bool):
        raise InputError(f"{path}: num_virtual_tokens: must be a whole number")
    if not 1 <= count <= MAX_VIRTUAL_TOKENS:
        raise InputError(
            f"{path}: num_virtual_tokens: {count} is not from 1 to {MAX_VIRTUAL_TOKENS}"
        )
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise InputError(
            f"{path}: task_type: {config['task_type']} is not supported for {config['peft_type']}; CAUSAL_LM is"
        )


def _refuse_scales(config: Mapping[str, Any], path: Path) -> None:
    """Ranks and scales that are none: PEFT would make room for any rank and multiply with any number."""

    def refuse_rank(key: str, rank: object) -> None:
        if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= MAX_RANK:
            raise InputError(
                f"{path}: {key}: {rank} is not a rank; it must be a whole number from 1 to {MAX_RANK}"
            )

    def refuse_alpha(key: str, alpha: object) -> None:
        if not (isinstance(alpha, (int, float)) and 0 < abs(alpha) < 1e6):
            raise InputError(f"{path}: {key}: {alpha} is not a usable scale")

    # OFT counts blocks with r, and 0 leaves their number to their size.
    keys = () if config["peft_type"] == "OFT" else ("r", "init_r", "target_r")
    for key in keys:
        if config.get(key) is not None:
            refuse_rank(key, config[key])
    for key in ("lora_alpha", "alpha"):
        if config.get(key) is not None:
            refuse_alpha(key, config[key])
    for key, check in (("rank_pattern", refuse_rank), ("alpha_pattern", refuse_alpha)):
        pattern = config.get(key) or {}
        if not isinstance(pattern, dict):
            raise InputError(f"{path}: {key}: must map module names to numbers")
        for module, value in pattern.items():
            # AdaLoRA lists, rank by rank, which ones it kept.
            if config["peft_type"] == "ADALORA" and isinstance(value, list):
                continue
            check(f"{key}.{module}", value)
