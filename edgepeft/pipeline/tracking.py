"""After a build: its bundles' figures for the trackers that have their training's curves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgepeft.errors import EdgepeftError, InterruptedRun
from edgepeft.events import Events, Sink
from edgepeft.metrics.names import vocabulary
from edgepeft.pipeline.plan import Plan
from edgepeft.stages.job import Stage
from edgepeft.stages.pool import Workers
from edgepeft.tracking.figures import FiguresResult, FiguresSettings
from edgepeft.tracking.runs import note_figures, read_runs, told

_STAGE = "report"


def report_figures(
    plan: Plan, bundles: Sequence[Mapping[str, Any]], workers: Workers, sink: Sink
) -> dict[str, str]:
    """Send what bundles were measured at to the trackers of their training; where each tracker's run is.

    ``bundles`` are the entries of ``build --json``. What a tracker has already isn't sent again, and one that
    can't be reached is a warning. Raises InterruptedRun.
    """
    trackers = plan.resolved.recipe.training.report_to
    training = next(iter(plan.kind("train")), None)
    if training is None or not trackers:
        return {}
    folder = plan.run.tracking / training.scratch.name
    figures = figures_of(bundles, plan.run.variant)
    runs = read_runs(folder)
    wanted = [name for name in trackers if not figures.items() <= told(runs, name).items()]
    if wanted:
        settings = FiguresSettings(
            trackers=tuple(wanted),
            title=plan.resolved.file.name,
            folder=folder,
            figures=figures,
        )
        stage = Stage(
            name=_STAGE,
            kind=_STAGE,
            function="edgepeft.tracking.figures:run",
            settings=settings,
            inputs={},
            files={},
            key="",
            final=folder,
            scratch=folder,
        )
        try:
            ended = workers.run(stage, {}, folder, plan.run.logs / f"{_STAGE}.log", sink)
        except InterruptedRun:
            raise
        except EdgepeftError as error:
            Events(_STAGE, sink).warning(f"the figures were not sent: {error}")
        else:
            note_figures(folder, FiguresResult.model_validate(ended["result"]).sent, figures)
        runs = read_runs(folder)
    return {name: runs[name]["place"] for name in trackers if name in runs}


def figures_of(bundles: Sequence[Mapping[str, Any]], variant: str = "") -> dict[str, float]:
    """The figures of bundles by what a tracker calls them: ``cpu-int4/task_kl``, the variant in front."""
    return {
        "/".join(filter(None, (variant, *names))): value
        for bundle in bundles
        for names, value in _of_bundle(bundle)
    }


def _of_bundle(bundle: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], float]]:
    target = bundle["target"]
    for part, entry in (("", bundle), *((one["name"], one) for one in bundle.get("adapters", ()))):
        measures = entry["fidelity"]
        if measures is None:
            continue
        for name in vocabulary(measures).contract:
            value = measures.get(name)
            if isinstance(value, (int, float)) and math.isfinite(value):
                yield (target, part, name), float(value)
        yield (target, part, "gates_passed"), float(entry["gates"] == "passed")
    if bundle["fidelity"] is not None:
        yield (target, "bytes"), float(bundle["bytes"])
