"""Carrying out a plan: stage by stage, reusing what is finished, recording how it went."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgepeft import __version__
from edgepeft.data.checks import check_data
from edgepeft.data.prompt import Prompter
from edgepeft.data.report import DataReport
from edgepeft.data.text_checks import check_texts
from edgepeft.data.texts import WHOLE, TextEncoder
from edgepeft.errors import EdgepeftError, InputError, InterruptedRun
from edgepeft.estimate import disk_needed
from edgepeft.events import Event, Events, Sink, discard
from edgepeft.fidelity.report import seal, seal_adapter
from edgepeft.history import remember_run
from edgepeft.planning import Plan, make_plan
from edgepeft.process import Workers
from edgepeft.recipe import promised
from edgepeft.recipe_file import RecipeFile
from edgepeft.runtime.adapters import ADAPTERS, NAME
from edgepeft.stage import Stage
from edgepeft.tasks import GENERATION
from edgepeft.workspace import (
    RunFolder,
    free_bytes,
    is_finished,
    publish,
    read_manifest,
    staging_folder,
    write_json,
)

_LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "bitsandbytes",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxruntime-genai",
    "safetensors",
    "tokenizers",
)


_MANIFEST_KINDS = {"export": "bundle", "adapt": "adapter"}


@dataclass
class BuildResult:
    """What a build made; ``as_dict`` is the object that ``build --json`` prints."""

    run: Path
    adapter: Path | None = None
    merged: Path | None = None
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    bundles: list[dict[str, Any]] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)

    @property
    def failed_gates(self) -> list[str]:
        """Every missed gate, with the bundle's target in front."""
        return [
            f"{bundle['target']}: {gate}"
            for bundle in self.bundles
            if isinstance(bundle["gates"], list)
            for gate in bundle["gates"]
        ]

    def as_dict(self) -> dict[str, Any]:
        """JSON form, paths absolute."""
        return {
            "run": str(self.run),
            "adapter": str(self.adapter) if self.adapter else None,
            "merged": str(self.merged) if self.merged else None,
            "seconds": round(self.seconds, 2),
            "peak_memory_bytes": self.peak_memory_bytes,
            "bundles": self.bundles,
            "reused": self.reused,
        }


def build(
    recipe: RecipeFile,
    out: Path,
    *,
    until: str = "verify",
    fresh: bool = False,
    force: bool = False,
    sink: Sink = discard,
) -> BuildResult:
    """Carry out a recipe up to the stages of kind ``until`` in the run folder ``out``.

    ``fresh`` starts without what earlier builds left there; ``force`` goes on where a check would stop for
    lack of disk space or a folder that is not a run. Raises EdgepeftError and its subclasses; missed gates do
    not raise, they are in the result.
    """
    run = RunFolder(out.resolve())
    plan = make_plan(recipe, run, until=until)
    _check_place(run, plan, force=force)
    started = time.monotonic()
    with run.locked():
        if fresh:
            for place in ("stages", "scratch", "bundles"):
                shutil.rmtree(run.path / place, ignore_errors=True)
        record = _start_record(plan)
        sink = _recorded(run.events, sink)
        events = Events("build", sink)
        events.emit("planned", stages=[stage.name for stage in plan.stages])
        for note in plan.notes:
            events.warning(note)
        result = BuildResult(run=run.path)
        try:
            with Workers() as workers:
                _run_stages(plan, result, sink, workers)
            _collect(plan, result)
            result.seconds = time.monotonic() - started
        except BaseException as error:
            state = (
                "interrupted"
                if isinstance(error, (InterruptedRun, KeyboardInterrupt))
                else "failed"
            )
            _finish_record(run, record, state, error=str(error))
            raise
        state = "gate missed" if result.failed_gates else "done"
        _finish_record(run, record, state, result=result.as_dict())
    return result


def measure(
    recipe: RecipeFile, run: RunFolder, workers: Workers, sink: Sink = discard
) -> list[dict[str, Any]]:
    """Build and measure a variant of a run's recipe inside its folder, beside the run's own bundles.

    Whatever the run has finished is reused. The caller holds the folder's lock. Returns the bundles' entries as
    ``build`` does. Raises EdgepeftError and its subclasses.
    """
    plan = make_plan(recipe, run, bundles_apart=True)
    _check_place(run, plan, force=False)
    result = BuildResult(run=run.path)
    _run_stages(plan, result, sink, workers)
    _collect(plan, result)
    return result.bundles


def _recorded(path: Path, sink: Sink) -> Sink:
    """A sink that also keeps every event in the run's folder, for whoever looks in later."""
    path.unlink(missing_ok=True)

    def record(event: Event) -> None:
        with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"time": round(time.time(), 3), **event}) + "\n")
        sink(event)

    return record


def _check_place(run: RunFolder, plan: Plan, *, force: bool) -> None:
    path = run.path
    if path.is_file():
        raise InputError(f"{path}: is a file; choose another --out")
    if path.is_dir() and any(path.iterdir()) and not force:
        known = run.record.is_file() or (path / ".lock").is_file()
        if not known:
            raise InputError(
                f"{path}: holds files that are no edgepeft run; choose another --out, or --force"
            )
    if not force:
        _keep_added_adapters(plan)
    needed, free = disk_needed(plan), free_bytes(path)
    if needed > free and not force:
        raise EdgepeftError(
            f"{path}: about {needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free; free some "
            "space, choose another --out, set merge.save: false, or --force"
        )


def _keep_added_adapters(plan: Plan) -> None:
    """Raise InputError where a bundle that is to be made anew holds adapters that this recipe does not know."""
    planned = {stage.final for stage in plan.kind("adapt")}
    for stage in plan.kind("export"):
        folder = stage.final / ADAPTERS
        if is_finished(stage.final, stage.key) or not folder.is_dir():
            continue
        added = sorted(
            entry.name
            for entry in folder.iterdir()
            if NAME.fullmatch(entry.name) and entry not in planned
        )
        if added:
            raise InputError(
                f"{stage.final}: its base would be another, and {len(added)} adapters were added to it "
                f"({', '.join(added[:3])}); choose another --out, or --force and add them again"
            )


def _run_stages(plan: Plan, result: BuildResult, sink: Sink, workers: Workers) -> None:
    outputs: dict[str, Path] = {}
    checked = False
    for stage in plan.stages:
        if stage.kind != "base" and not checked:
            _check_rows(plan, outputs["base"], Events("data", sink))
            checked = True
        if is_finished(stage.final, stage.key) and _still_points_somewhere(stage):
            sink({"event": "reused", "stage": stage.name, "path": str(stage.final)})
            result.reused.append(stage.name)
        else:
            _run_stage(plan, stage, outputs, sink, workers)
        outputs[stage.name] = stage.final
        manifest = read_manifest(stage.final) or {}
        peak = int(manifest.get("peak_memory_bytes", 0))
        result.peak_memory_bytes = max(result.peak_memory_bytes, peak)


def _still_points_somewhere(stage: Stage) -> bool:
    """A base made from a model folder names that folder; the folder may have moved since."""
    if stage.kind != "base":
        return True
    weights = Path(str((read_manifest(stage.final) or {}).get("result", {}).get("weights", ".")))
    return not weights.is_absolute() or weights.is_dir()


def _run_stage(
    plan: Plan, stage: Stage, outputs: Mapping[str, Path], sink: Sink, workers: Workers
) -> None:
    sink({"event": "started", "stage": stage.name})
    staged = staging_folder(stage.final)
    inputs = {name: outputs[source] for name, source in stage.inputs.items()}
    inputs.update({name: path for name, (path, _) in stage.files.items()})
    try:
        ended = workers.run(stage, inputs, staged, plan.run.logs / f"{stage.name}.log", sink)
        manifest = {
            "kind": _MANIFEST_KINDS.get(stage.kind, "stage"),
            "stage": stage.name,
            "key": stage.key,
            "edgepeft": __version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(ended["seconds"], 2),
            "peak_memory_bytes": ended["peak_memory_bytes"],
            "seed": plan.recipe.recipe.training.seed,
            "settings": dict(stage.settings),
            "inputs": {
                **{name: plan.stage(source).key for name, source in stage.inputs.items()},
                **{name: digest for name, (_, digest) in stage.files.items()},
            },
            "versions": _versions(),
            "result": ended["result"],
        }
        publish(staged, stage.final, manifest)
    except BaseException as error:
        shutil.rmtree(staged, ignore_errors=True)
        sink({"event": "failed", "stage": stage.name, "error": str(error)})
        raise
    sink(
        {
            "event": "finished",
            "stage": stage.name,
            "seconds": round(ended["seconds"], 2),
            "metrics": {"peak_memory_bytes": ended["peak_memory_bytes"]},
        }
    )


def _check_rows(plan: Plan, base: Path, events: Events) -> None:
    """Look the data over as the model will read it; problems stop here, before training."""
    if not plan.test_rows and not plan.train_rows:
        return
    report = _checked(plan, base)
    write_json(plan.run.path / "data.json", report.as_dict())
    events.emit("data", report=report.as_dict())
    for warning in report.warnings:
        events.warning(warning)


def _checked(plan: Plan, base: Path) -> DataReport:
    """The checks of a plan's rows as its model reads them."""
    settings = plan.recipe.recipe
    train = plan.train_rows if settings.adapter is None else []
    test = plan.test_rows or plan.train_rows
    longest = settings.data.max_length
    if plan.task != GENERATION:
        longest = min(longest, plan.model.context_length)
        return check_texts(train, test, TextEncoder(base, WHOLE), max_length=longest)
    template = settings.data.template
    if template not in ("auto", "chat", "plain"):
        template = str(plan.recipe.resolve(template))
    return check_data(train, test, Prompter.from_folder(base, template), max_length=longest)


def _collect(plan: Plan, result: BuildResult) -> None:
    """Gather the paths and, for verified bundles, seal them with their report and gates."""
    names = {stage.name: stage for stage in plan.stages}
    if plan.adapter is not None:
        result.adapter = plan.adapter
    for name in ("train", "combine"):
        if name in names:
            result.adapter = names[name].final / "adapter"
    if "merge" in names:
        result.merged = names["merge"].final
    for stage in plan.kind("export"):
        target = stage.name.removeprefix("export-")
        verify = names.get(f"verify-{target}")
        quantized = names.get(stage.inputs.get("quantize", ""))
        measured = {one.inputs.get("adapter"): one.final for one in plan.kind("verify")}
        gates = promised(plan.recipe.recipe)
        adapters = [
            seal_adapter(one.final, measured.get(one.name), gates)
            for one in plan.kind("adapt")
            if one.inputs["bundle"] == stage.name
        ]
        result.bundles.append(
            seal(
                stage.final,
                measures=verify.final if verify else None,
                quantized=quantized.final if quantized else None,
                gates=gates,
                adapters=adapters,
            )
        )


def _versions() -> dict[str, str]:
    found = {"edgepeft": __version__}
    for library in _LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _start_record(plan: Plan) -> dict[str, Any]:
    recipe, run = plan.recipe, plan.run
    (run.path / "recipe.yaml").write_text(recipe.verbatim, encoding="utf-8")
    (run.path / "recipe.resolved.yaml").write_text(recipe.resolved_yaml(), encoding="utf-8")
    record = {
        "format": 1,
        "name": recipe.name,
        "recipe": str(recipe.path.resolve()) if recipe.path else None,
        "folder": str(recipe.folder.resolve()),
        "model": plan.base_name,
        "targets": [target.name for target in plan.targets],
        "state": "running",
        "pid": os.getpid(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "edgepeft": __version__,
    }
    write_json(run.record, record)
    remember_run(run.path)
    return record


def _finish_record(run: RunFolder, record: dict[str, Any], state: str, **facts: Any) -> None:
    ended = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(run.record, {**record, "state": state, "ended": ended, **facts})
