"""``edgepeft inspect``: what a model, an adapter, a bundle or a run is, from its headers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from edgepeft.cli.options import JsonOption
from edgepeft.cli.streams import say
from edgepeft.utils.terminal_text import visible_line


def command(
    subject: Annotated[
        str,
        typer.Argument(
            help="A model (folder, .gguf file or known name), or the folder of an adapter, bundle or run."
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Describe a model, adapter, bundle or run."""
    facts = look_at(subject)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    lines = {visible_line(key): _shown(value) for key, value in facts.items()}
    width = max(map(len, lines))
    for key, line in lines.items():
        say(f"{key:<{width}}  {line}")


def _shown(value: Any) -> Any:
    """A fact for people."""
    if isinstance(value, (dict, list, bool)) or value is None:
        return json.dumps(value)
    return value


def look_at(subject: str) -> dict[str, Any]:
    """Facts of whatever ``subject`` names. Raises InputError."""
    from edgepeft.adapters.folder import CONFIG, find_adapter
    from edgepeft.cli.meant import refuse_other_than_inspected
    from edgepeft.models import find_model
    from edgepeft.runs.folder import MANIFEST
    from edgepeft.runs.index import run_record
    from edgepeft.utils.files import read_json_object

    folder = Path(subject)
    refuse_other_than_inspected(folder)
    if (folder / CONFIG).exists() or any(folder.glob(f"checkpoint-*/{CONFIG}")):
        return _adapter(find_adapter(folder))
    if (folder / "run.json").is_file():
        return {"kind": "run", **run_record(folder)}
    manifest = folder / MANIFEST
    if manifest.is_file() and read_json_object(manifest).get("kind") == "bundle":
        return _bundle(folder)
    return _model(find_model(subject, Path.cwd()))


def _model(path: Path) -> dict[str, Any]:
    from edgepeft.errors import InputError
    from edgepeft.models import inspect_model
    from edgepeft.models.checks import check_head_size, check_headers
    from edgepeft.models.known_files import MODEL_FILES, file_notes
    from edgepeft.models.tasks import ENCODER_TASKS, GENERATION, task_of_head
    from edgepeft.targets import find_exporter

    info = inspect_model(path)
    head = task_of_head(info.architecture, info.config)
    refusal = find_exporter("decoder" if head == GENERATION else "encoder").refuses(info)
    try:
        info.require_sizes()
        check_headers(info)
        if head == GENERATION:
            check_head_size(info)
    except InputError as error:
        refusal = refusal or str(error)
    tasks = [head] if head else list(ENCODER_TASKS)
    facts = {
        **info.as_dict(),
        "kind": "model",
        "form": info.kind,
        "tasks": tasks,
        "supported": refusal is None,
        "notes": file_notes(path, MODEL_FILES) if path.is_dir() else [],
    }
    if refusal is not None:
        facts["why_not"] = refusal
    return facts


def _adapter(folder: Path) -> dict[str, Any]:
    from edgepeft.adapters.config import read_adapter_config
    from edgepeft.adapters.overview import adapter_notes
    from edgepeft.adapters.provenance import read_provenance

    config = read_adapter_config(folder)
    provenance = read_provenance(folder)
    return {
        "kind": "adapter",
        "path": str(folder.resolve()),
        "method": config["peft_type"],
        "rank": config.get("r"),
        "alpha": config.get("lora_alpha"),
        "target_modules": config.get("target_modules"),
        "base": config.get("base_model_name_or_path"),
        "trained_on": provenance.trained_on,
        "known_from": provenance.source,
        "notes": adapter_notes(folder, config),
    }


def _bundle(folder: Path) -> dict[str, Any]:
    from edgepeft.runtime.adapters import adapter_names
    from edgepeft.runtime.bundle import Bundle
    from edgepeft.runtime.slots import takes_adapters

    bundle = Bundle.open(folder, check="sizes")
    return {
        "kind": "bundle",
        "path": str(bundle.path),
        "target": bundle.target,
        "base": bundle.base,
        "provider": bundle.provider,
        "task": bundle.task,
        "runtimes": list(bundle.runtimes),
        "prompt": bundle.prompt_mode or None,
        "context_length": bundle.context_length,
        "model_file": str(bundle.model_file),
        "bytes": sum(entry["bytes"] for entry in bundle.manifest["outputs"].values()),
        "adapters": adapter_names(bundle) if takes_adapters(bundle) else "merged",
        "fidelity": bundle.manifest.get("fidelity"),
        "made_by": f"edgepeft {bundle.manifest.get('edgepeft')}",
    }
