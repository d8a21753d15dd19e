"""The files beside a graph that every bundle has: the model's configuration and its tokenizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from edgepeft.bundle.layout import GENAI, JS, JS_CONFIG, LAYOUTS, LayoutName
from edgepeft.models.layer_kinds import keeps_states, layer_kinds
from edgepeft.models.older_keys import in_todays_keys
from edgepeft.targets import TargetProfile

_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def write_config(base: Path, out: Path, target: TargetProfile) -> dict[str, Any]:
    """``config.json``, with what transformers.js needs to know of the graph; returned too."""
    config = in_todays_keys(read_json(base / "config.json"))
    if keeps_states(config):
        # Which layers those are is read out of the list alone there.
        config["layer_types"] = layer_kinds(config)
    if target.js_dtype is not None:
        config[JS_CONFIG] = {
            "dtype": target.js_dtype,
            "use_external_data_format": {f"{target.file_stem}.onnx": 1},
        }
    config["dtype"] = _DTYPES[target.io_dtype]
    config.pop("torch_dtype", None)
    write_json(out / "config.json", config)
    return config


def write_tokenizer(
    base: Path,
    out: Path,
    context_length: int,
    template: str | None = None,
    *,
    typed: bool = False,
) -> None:
    """The tokenizer under a class name that every reader knows, with the chat template in its configuration.

    ``typed`` says that the graph is told two texts apart.
    """
    shutil.copyfile(base / "tokenizer.json", out / "tokenizer.json")
    tokenizer = read_json(base / "tokenizer_config.json")
    tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    tokenizer["model_input_names"] = ["input_ids", "attention_mask"]
    if typed:
        # transformers.js goes by the class, and else tells the graph that both texts are the first.
        tokenizer["tokenizer_class"] = "BertTokenizer"
        tokenizer["model_input_names"].append("token_type_ids")
    tokenizer["model_max_length"] = context_length
    tokenizer.pop("chat_template", None)
    if template is not None:
        tokenizer["chat_template"] = template
    write_json(out / "tokenizer_config.json", tokenizer)
    if (base / "special_tokens_map.json").is_file():
        shutil.copyfile(base / "special_tokens_map.json", out / "special_tokens_map.json")


def leave_out(folder: Path, layout: LayoutName, runtimes: Collection[str]) -> None:
    """Remove from a bundle with the files of all runtimes what a layout does without, and what would have a
    runtime load it that is not among ``runtimes``.
    """
    for name in LAYOUTS[layout].leaves_out:
        (folder / name).unlink(missing_ok=True)
    if GENAI not in runtimes:
        (folder / "genai_config.json").unlink(missing_ok=True)
    config = read_json(folder / "config.json")
    if JS not in runtimes and config.pop(JS_CONFIG, None) is not None:
        write_json(folder / "config.json", config)


def read_json(path: Path) -> dict[str, Any]:
    """A file's content; nothing where there is no such file."""
    if not path.is_file():
        return {}
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    """The way all of them are written."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
