"""From a resolved recipe to the stages of a plan, each with the key that identifies what it makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from edgepeft.pipeline.inputs import Inputs
from edgepeft.pipeline.kinds.spec import PlannedStage, StageSpec
from edgepeft.pipeline.plan import Plan
from edgepeft.pipeline.resolved import ResolvedRecipe
from edgepeft.runs.folder import RunFolder
from edgepeft.stages.job import Stage
from edgepeft.targets import find_exporter


def lay_out(
    resolved: ResolvedRecipe,
    run: RunFolder,
    kinds: Sequence[StageSpec],
    *,
    until: str,
    bundles_apart: bool = False,
) -> Plan:
    """The stages of these kinds in their order; ``bundles_apart`` as in ``make_plan``. Raises InputError."""
    read = Inputs(resolved, run, until=until, bundles_apart=bundles_apart)
    stages: dict[str, Stage] = {}
    for spec in kinds:
        for planned in spec.plan(resolved, read):
            stage = _keyed(spec, planned, stages, run)
            stages[stage.name] = stage
            read.planned[stage.name] = stage.final
    read.save()
    notes = tuple(dict.fromkeys([*resolved.notes, *read.notes]))
    return Plan(resolved, run, tuple(stages.values()), notes)


def _keyed(
    spec: StageSpec, planned: PlannedStage, earlier: Mapping[str, Stage], run: RunFolder
) -> Stage:
    """A planned stage with its key, and the places that follow from it."""
    identity = {
        "kind": spec.kind,
        "version": spec.version,
        "form": planned.form,
        "settings": planned.settings.identity(),
        "inputs": {key: earlier[stage].key for key, stage in planned.inputs.items()},
        "files": {key: digest for key, (_, digest) in planned.files.items()},
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    form = planned.form
    return Stage(
        name=planned.name,
        kind=spec.kind,
        # Exporters may come from other packages, and say themselves what carries them out.
        function=spec.functions[form] if spec.functions else find_exporter(form).stage,
        settings=planned.settings,
        inputs=planned.inputs,
        files=planned.files,
        key=key,
        final=planned.final or run.stage(planned.name, key),
        scratch=run.scratch(planned.name, key),
    )
