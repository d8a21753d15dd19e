"""Stage functions run in the test's own process, and adapters for them to work on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
from filelock import FileLock

from edgepeft.events import Event, Events
from edgepeft.merging.settings import AdapterSettings
from edgepeft.runs.folder import publish, staging_folder
from edgepeft.stages.job import Job, StageFunction, StageSettings, settings_for

_S = TypeVar("_S", bound=StageSettings)


def job_of(
    model: type[_S],
    out: Path,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Path],
    sink: Callable[[Event], None] = lambda event: None,
) -> Job[_S]:
    """A job with settings of a model that writes into ``out``; its progress is not thinned out."""
    events = Events(out.name, sink, min_interval=0.0)
    own = model.model_validate(dict(settings))
    return Job(own, inputs, out, out.parent / "scratch", events)


def make_job(
    out: Path, settings: Mapping[str, Any], inputs: Mapping[str, Path]
) -> Job[AdapterSettings]:
    """A job of a stage that works on a base and its adapter."""
    return job_of(AdapterSettings, out, settings, inputs)


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
    job = Job(
        settings_for(function, settings),
        inputs,
        staged,
        staged.parent / "scratch",
        Events(staged.name, lambda event: None, min_interval=0.0),
    )
    result = function(job).as_dict()
    kept = job.settings.model_dump(mode="json")
    publish(staged, final, {"kind": kind, "key": final.name, "settings": kept, "result": result})
    return final


ERROR = "error.txt"
"""What a case of a chain raised, in the case's folder."""

CARRIED = "carried"
"""In the folder of a chain that has been carried to its end."""

Find = Callable[..., Path]
"""``find(case, stage)``: the folder of a stage of a case."""


def carry_cases(carry: Callable[[Any, Path], object], cases: Mapping[str, Any], root: Path) -> None:
    """Carry every case in a folder of its own below ``root``; one that fails leaves what it raised there."""
    for name, case in cases.items():
        try:
            carry(case, root / name)
        except Exception:  # the tests of this case report it; the other cases go on
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / ERROR).write_text(traceback.format_exc())


def finder(root: Path) -> Find:
    """Finds stages' folders of the cases carried below ``root``; fails with what the case raised."""

    def find(case: str, stage: str) -> Path:
        folder = root / case / stage
        if not folder.is_dir():
            pytest.fail((root / case / ERROR).read_text())
        return folder

    return find


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


def carried_once(module: str, factory: pytest.TempPathFactory) -> Find:
    """The finder of a chain that is carried once, whichever test of whichever worker asks for it first."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    root = base / module
    with FileLock(base / f"{module}.lock"):
        if not (root / CARRIED).is_file():
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir()
            carry_chain(module, root)
            (root / CARRIED).touch()
    return finder(root)


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
