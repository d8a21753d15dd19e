"""Carrying out a plan: stage by stage, reusing what is finished, recording how it went."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepeft.bundle.layout import ADAPTER_NAME, ADAPTERS
from edgepeft.config.loader import RecipeFile
from edgepeft.data.checks import check_data
from edgepeft.data.prompt import Prompter
from edgepeft.data.report import DataReport
from edgepeft.data.text_checks import check_texts
from edgepeft.data.texts import WHOLE, TextEncoder
from edgepeft.data.written_rows import as_jsonl
from edgepeft.errors import EdgepeftError, GateError, InputError
from edgepeft.evaluation.seal import seal, seal_adapter
from edgepeft.events import Events, Sink, discard
from edgepeft.models.tasks import GENERATION
from edgepeft.pipeline.advice import add_advice
from edgepeft.pipeline.execute import carry_out, is_done, order_of, peak_memory
from edgepeft.pipeline.plan import Plan
from edgepeft.pipeline.planner import make_plan
from edgepeft.pipeline.promises import gates_of
from edgepeft.pipeline.record import Record, recorded
from edgepeft.pipeline.resolved import ResolvedRecipe
from edgepeft.pipeline.resources import disk_needed
from edgepeft.pipeline.sources import origins_of
from edgepeft.pipeline.tracking import report_figures
from edgepeft.runs.folder import (
    RunFolder,
    free_bytes,
    is_finished,
    write_json,
)
from edgepeft.stages.pool import Workers
from edgepeft.tool_calling.row_checks import with_unread_calls
from edgepeft.utils.whole_files import write_text


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
    tracked: dict[str, str] = field(default_factory=dict)
    """Each tracker that the training reported to, and where to look at its run."""

    @property
    def failed_gates(self) -> list[str]:
        """Every missed gate, with the bundle's target in front."""
        return [
            f"{bundle['target']}: {gate}"
            for bundle in self.bundles
            if isinstance(bundle["gates"], list)
            for gate in bundle["gates"]
        ]

    def require_gates(self) -> None:
        """Raise GateError, with this result, where a gate was missed."""
        if self.failed_gates:
            raise GateError("gate missed: " + "; ".join(self.failed_gates), result=self)

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
            "tracked": self.tracked,
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
    check_place(run, [plan], disk_needed(plan), force=force)
    started = time.monotonic()
    with run.locked():
        if fresh:
            run.clear()
        names = [target.name for target in plan.resolved.targets]
        sources = plan.resolved.sources
        more = {"sources": [one.as_dict() for one in sources]} if sources else {}
        record = Record.start(run, recipe, plan.resolved.base_name, names, **more)
        sink = recorded(run.events, sink)
        events = Events("build", sink)
        events.emit("planned", stages=[stage.name for stage in plan.stages])
        for line in recipe.decided:
            events.message(line)
        for note in plan.notes:
            events.warning(note)
        result = BuildResult(run=run.path)
        try:
            with Workers() as workers:
                _run_stages(plan, result, sink, workers)
                collect(plan, result)
                for bundle in result.bundles:
                    for warning in bundle.get("warnings", ()):
                        events.warning(f"{bundle['target']}: {warning}")
                result.tracked = report_figures(plan, result.bundles, workers, sink)
            result.seconds = time.monotonic() - started
        except BaseException as error:
            record.fail(error)
            raise
        record.finish("gate missed" if result.failed_gates else "done", result=result.as_dict())
    return result


def measure(
    recipe: RecipeFile, run: RunFolder, workers: Workers, sink: Sink = discard
) -> list[dict[str, Any]]:
    """Build and measure a variant of a run's recipe inside its folder, beside the run's own bundles.

    Whatever the run has finished is reused. The caller holds the folder's lock. Returns the bundles' entries as
    ``build`` does. Raises EdgepeftError and its subclasses.
    """
    plan = make_plan(recipe, run, bundles_apart=True)
    check_place(run, [plan], disk_needed(plan), force=False)
    result = BuildResult(run=run.path)
    _run_stages(plan, result, sink, workers)
    collect(plan, result)
    return result.bundles


def check_place(run: RunFolder, plans: Sequence[Plan], needed: int, *, force: bool) -> None:
    """Raise InputError, EdgepeftError where a folder can't take plans, which write ``needed`` bytes there."""
    path = run.path
    if path.is_file():
        raise InputError(f"{path}: is a file; choose another --out")
    if force:
        return
    if path.is_dir() and any(path.iterdir()):
        known = run.record.is_file() or (path / ".lock").is_file()
        if not known:
            raise InputError(f"{path}: contains other files; choose another --out, or give --force")
    for plan in plans:
        _keep_added_adapters(plan)
    free = free_bytes(path)
    if needed > free:
        raise EdgepeftError(
            f"{path}: the build needs about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; free some "
            "space, choose another --out, set merge.save: false, or give --force"
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
            if ADAPTER_NAME.fullmatch(entry.name) and entry not in planned
        )
        if added:
            raise InputError(
                f"{stage.final}: would be rebuilt on another base, and {len(added)} adapters were added to it "
                f"({', '.join(added[:3])}); choose another --out, or give --force and add them again"
            )


def _run_stages(plan: Plan, result: BuildResult, sink: Sink, workers: Workers) -> None:
    checked = False
    for stage in plan.stages:
        if stage.kind != "base" and not checked:
            report = check_rows(plan, Events("data", sink))
            if report is not None:
                write_json(plan.run.path / "data.json", report)
            keep_split(plan)
            checked = True
        if is_done(stage):
            sink({"event": "reused", "stage": stage.name, "path": str(stage.final)})
            result.reused.append(stage.name)
        else:
            carry_out(order_of(plan, stage), workers, sink)
        result.peak_memory_bytes = max(result.peak_memory_bytes, peak_memory(stage))


def keep_split(plan: Plan) -> None:
    """Show which rows were trained on and which were held out; the stages make the same split themselves."""
    resolved = plan.resolved
    if resolved.recipe.data.held_out is None:
        return
    for name, rows in (("train", resolved.train_rows), ("test", resolved.test_rows)):
        path = plan.run.path / "rows" / plan.run.variant / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, as_jsonl(rows))


def check_rows(plan: Plan, events: Events) -> dict[str, Any] | None:
    """Look the data over as the model will read it; problems stop here, before training. Raises InputError.

    The plan's base stage is finished. Returns what was found, None for a plan without rows.
    """
    if not plan.resolved.test_rows and not plan.resolved.train_rows:
        return None
    report = _checked(plan.resolved, plan.stage("base").final)
    events.emit("data", report=report.as_dict())
    for warning in report.warnings:
        events.warning(warning)
    return report.as_dict()


def _checked(resolved: ResolvedRecipe, base: Path) -> DataReport:
    """The checks of a recipe's rows as its model reads them."""
    settings, model = resolved.recipe, resolved.model
    train = resolved.train_rows if resolved.trains else []
    test = resolved.test_rows or resolved.train_rows
    longest = settings.data.max_length
    if resolved.task != GENERATION:
        longest = min(longest, model.context_length)
        return check_texts(
            train, test, TextEncoder(base, WHOLE, settings.data.control_tokens), max_length=longest
        )
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    prompter = Prompter.from_folder(base, resolved.file.template, settings.data.control_tokens)
    report = check_data(
        train,
        test,
        prompter,
        max_length=longest,
        objective=settings.training.objective if resolved.trains else "supervised",
        context=model.context_length,
        ids=config.get("vocab_size"),
    )
    return with_unread_calls(report, prompter, [*train, *test])


def collect(plan: Plan, result: BuildResult) -> None:
    """Gather the paths and, for verified bundles, seal them with their report and gates."""
    names = {stage.name: stage for stage in plan.stages}
    resolved = plan.resolved
    origins = origins_of(resolved.recipe, resolved.given.path, resolved.sources)
    if resolved.adapter is not None:
        result.adapter = resolved.adapter.path
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
        built = resolved.target(target)
        gates = gates_of(resolved, built)
        adapters = [
            seal_adapter(
                one.final,
                measured.get(one.name),
                gates_of(resolved, built, one.name.removeprefix(f"adapt-{target}-")),
            )
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
                origins=origins,
            )
        )
    add_advice(plan, result.bundles)
