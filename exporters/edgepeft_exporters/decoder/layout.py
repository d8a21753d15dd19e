"""The files beside the graph: what onnxruntime-genai, transformers.js and plain onnxruntime each look for.

One folder serves them all: the graph under ``onnx/`` with transformers.js' name for its precision, the genai
configuration naming it from the top, the tokenizer under a class name that every reader knows, and the chat
template both as a file and inside the tokenizer's configuration.
"""

from __future__ import annotations

from pathlib import Path

from edgepeft.data.prompt import Prompter
from edgepeft.targets import TargetProfile
from edgepeft_exporters.side_files import read_json, write_config, write_json, write_tokenizer


def write_side_files(base: Path, out: Path, prompter: Prompter, target: TargetProfile) -> None:
    """Copy and complete configuration, generation settings, tokenizer and chat template."""
    stops = sorted(prompter.stop_ids)
    write_config(base, out, target)

    generation = read_json(base / "generation_config.json")
    generation["eos_token_id"] = stops if len(stops) > 1 else stops[0]
    write_json(out / "generation_config.json", generation)

    genai = read_json(out / "genai_config.json")
    genai["model"]["eos_token_id"] = stops if len(stops) > 1 else stops[0]
    write_json(out / "genai_config.json", genai)

    template = prompter.template_source
    write_tokenizer(base, out, int(genai["model"]["context_length"]), template)
    if template is not None:
        (out / "chat_template.jinja").write_text(template, encoding="utf-8")
