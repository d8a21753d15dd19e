"""The files beside the graph: what onnxruntime-genai, transformers.js and plain onnxruntime each look for.

One folder serves them all: the graph under ``onnx/`` with transformers.js' name for its precision, the genai
configuration naming it from the top, the tokenizer under a class name that every reader knows, and the chat
template both as a file and inside the tokenizer's configuration.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from edgepeft.data.prompt import Prompter
from edgepeft.targets import TargetProfile

_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def write_side_files(base: Path, out: Path, prompter: Prompter, target: TargetProfile) -> None:
    """Copy and complete configuration, generation settings, tokenizer and chat template."""
    stops = sorted(prompter.stop_ids)
    config = _read(base / "config.json")
    if target.js_dtype is not None:
        config["transformers.js_config"] = {
            "dtype": target.js_dtype,
            "use_external_data_format": {f"{target.file_stem}.onnx": 1},
        }
    config["dtype"] = _DTYPES[target.io_dtype]
    config.pop("torch_dtype", None)
    _write(out / "config.json", config)

    generation = _read(base / "generation_config.json")
    generation["eos_token_id"] = stops if len(stops) > 1 else stops[0]
    _write(out / "generation_config.json", generation)

    genai = _read(out / "genai_config.json")
    genai["model"]["eos_token_id"] = stops if len(stops) > 1 else stops[0]
    _write(out / "genai_config.json", genai)

    shutil.copyfile(base / "tokenizer.json", out / "tokenizer.json")
    tokenizer = _read(base / "tokenizer_config.json")
    tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    tokenizer["model_input_names"] = ["input_ids", "attention_mask"]
    tokenizer["model_max_length"] = int(genai["model"]["context_length"])
    tokenizer.pop("chat_template", None)
    if prompter.template_source is not None:
        tokenizer["chat_template"] = prompter.template_source
        (out / "chat_template.jinja").write_text(prompter.template_source, encoding="utf-8")
    _write(out / "tokenizer_config.json", tokenizer)
    if (base / "special_tokens_map.json").is_file():
        shutil.copyfile(base / "special_tokens_map.json", out / "special_tokens_map.json")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
