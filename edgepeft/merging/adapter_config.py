"""What an adapter's configuration says, checked without loading torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgepeft.errors import InputError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def refuse_head(modules: object, where: str) -> None:
    """Raise InputError where head or embedding are to be adapted: they are kept on a grid of their own."""
    named = modules if isinstance(modules, (list, tuple, set)) else [modules]
    for module in named:
        if isinstance(module, str) and module.rpartition(".")[2] in ("lm_head", "embed_tokens"):
            raise InputError(f"{where}: adapting {module} is not supported yet; leave it out")


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """Read ``adapter_config.json`` and refuse what can be seen to be wrong there. Raises InputError."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such adapter folder")
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder}: not a PEFT adapter folder (no {CONFIG})") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(config, dict) or "peft_type" not in config:
        raise InputError(f"{path}: has no peft_type")
    if not (folder / WEIGHTS).is_file():
        if (folder / "adapter_model.bin").exists():
            raise InputError(
                f"{folder}: holds only pickle weights (adapter_model.bin), which can run code; save the "
                f"adapter as {WEIGHTS}"
            )
        raise InputError(f"{folder}: has no {WEIGHTS}")
    if config.get("modules_to_save"):
        raise InputError(
            f"{path}: modules_to_save is not supported yet; merge such an adapter with PEFT first"
        )
    if config.get("bias", "none") != "none":
        raise InputError(
            f"{path}: bias: {config['bias']} is not supported yet; train with bias: none"
        )
    refuse_head(config.get("target_modules"), f"{path}: target_modules")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if rank is not None and (not isinstance(rank, int) or rank < 1):
        raise InputError(
            f"{path}: r: {rank} is not a rank; it must be a whole number of at least 1"
        )
    if alpha is not None and not (isinstance(alpha, (int, float)) and 0 < abs(alpha) < 1e6):
        raise InputError(f"{path}: lora_alpha: {alpha} is not a usable scale")
    return config
