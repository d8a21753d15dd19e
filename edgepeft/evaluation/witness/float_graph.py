"""The float-graph stage: the graph of a quantized bundle, exported once more with float weights, is the
model's own.

What rounding changes can't be told from a small fault of the graph; without rounding nothing may differ. The
graph is made by the same exporter with the same options from the same weights, and held against the second
witness in every runtime that edgepeft answers with. It is thrown away afterwards.
"""

from __future__ import annotations

import pkgutil
import shutil
import time
from pathlib import Path

from edgepeft.evaluation.results import FloatGraphResult
from edgepeft.evaluation.settings import FloatGraphSettings
from edgepeft.evaluation.witness.check import bundle_facts
from edgepeft.evaluation.witness.exact import OF_EXPORT
from edgepeft.evaluation.witness.stage import WitnessRecord
from edgepeft.runs.folder import publish, staging_folder
from edgepeft.runtime.adapters import FACTORS
from edgepeft.runtime.bundle import Bundle
from edgepeft.stages.job import Job, StageFunction
from edgepeft.targets import find_exporter


def run(job: Job[FloatGraphSettings]) -> FloatGraphResult:
    """Stage function. Inputs: ``witness``, those of the export stage behind ``export/``, and ``adapter``, a
    folder of factors, for a bundle that takes them.
    """
    started = time.monotonic()
    testimony = WitnessRecord.open(job.inputs["witness"])
    final = job.scratch / "float-graph"
    try:
        bundle = _export(job, final)
        adapter = job.inputs.get("adapter")
        facts = bundle_facts(bundle, testimony, None if adapter is None else adapter / FACTORS)
    finally:
        shutil.rmtree(final, ignore_errors=True)
    seconds = round(time.monotonic() - started, 2)
    return FloatGraphResult(graph=facts.graph, engines=facts.engines, seconds=seconds)


def _export(job: Job[FloatGraphSettings], final: Path) -> Bundle:
    """The bundle of the export stage's settings over float weights."""
    exports: StageFunction = pkgutil.resolve_name(find_exporter(job.settings.exporter).stage)
    shutil.rmtree(final, ignore_errors=True)
    staged = staging_folder(final)
    inputs = {
        key.removeprefix(OF_EXPORT): path
        for key, path in job.inputs.items()
        if key.startswith(OF_EXPORT)
    }
    settings = job.settings.export
    result = exports(Job(settings, inputs, staged, job.scratch / "export", job.events))
    manifest = {"kind": "bundle", "key": "", "settings": settings.model_dump(mode="json")}
    publish(staged, final, {**manifest, "result": result.as_dict()})
    return Bundle.open(final, check="sizes")
