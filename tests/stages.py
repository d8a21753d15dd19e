"""Stage functions run in the test's own process, and adapters for them to work on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgepeft.events import Event, Events
from edgepeft.stage import Job, StageFunction
from edgepeft.workspace import publish, staging_folder


def make_job(
    out: Path,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Path],
    sink: Callable[[Event], None] = lambda event: None,
) -> Job:
    """A job that writes into ``out``; its progress is not thinned out."""
    events = Events(out.name, sink, min_interval=0.0)
    return Job(settings, inputs, out, out.parent / "scratch", events)


def run_stage(
    function: StageFunction,
    final: Path,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Path],
    *,
    kind: str = "stage",
) -> Path:
    """Run a stage as the pipeline does, publish its output as ``final`` and return that."""
    staged = staging_folder(final)
    result = function(make_job(staged, settings, inputs))
    manifest = {"kind": kind, "key": final.name, "settings": dict(settings), "result": result}
    publish(staged, final, manifest)
    return final


def carry_chain(module: str, root: Path) -> None:
    """Run a chain of stages, ``python -m module root``, in a process of its own, which must end well."""
    done = subprocess.run(
        [sys.executable, "-m", module, str(root)],
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([".", "exporters"])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def write_adapter(model: Path, folder: Path, *, seed: int = 0, **lora: Any) -> Path:
    """Save a random LoRA adapter for ``model``, as PEFT writes it; ``lora`` goes to LoraConfig."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    options = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **lora}
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LoraConfig(init_lora_weights=False, task_type="CAUSAL_LM", **options)
        wrapped = get_peft_model(base, config)
    wrapped.save_pretrained(str(folder))
    # PEFT's card says nothing of a grid here; without it a test chooses what is known.
    (folder / "README.md").unlink(missing_ok=True)
    return folder
