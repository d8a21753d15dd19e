"""An adapter that is about to be added to a hot-swap bundle, measured against its own unmerged reference.

The stages are those of a build (base, reference, verify), each in a process of its own; the adapter is measured
in a copy of the bundle, so that nobody is served by one that misses its gates.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepeft.bundle.layout import ADAPTERS
from edgepeft.checkpoints.base_stage import BaseSettings, base_facts
from edgepeft.config.sections import Merge
from edgepeft.config.test_sets import GivenTests
from edgepeft.data.control_tokens import policy_of
from edgepeft.data.template_modes import TEMPLATE_WORDS
from edgepeft.errors import InputError
from edgepeft.evaluation.execution import choose_execution
from edgepeft.evaluation.seal import seal_adapter
from edgepeft.evaluation.settings import ReferenceSettings, VerifySettings, WitnessSettings
from edgepeft.events import Sink
from edgepeft.hot_swap.store import add_adapter
from edgepeft.merging.settings import FrozenBase
from edgepeft.models import find_model
from edgepeft.pipeline.execute import Order, carry_out
from edgepeft.pipeline.inputs import at_default
from edgepeft.pipeline.kinds.base import BASE
from edgepeft.pipeline.kinds.reference import REFERENCE
from edgepeft.pipeline.kinds.spec import StageSpec
from edgepeft.pipeline.kinds.verify import VERIFY
from edgepeft.pipeline.kinds.witness import WITNESS
from edgepeft.runs.folder import writing_failed
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.slots import slots_of
from edgepeft.stages.job import Stage, StageSettings
from edgepeft.stages.pool import Workers


@dataclass(frozen=True)
class Trial:
    """An adapter measured in a copy of its bundle: its entry as of ``seal_adapter``, and the measures' folder."""

    entry: Mapping[str, Any]
    measures: Path

    @property
    def missed(self) -> list[str]:
        """The gates that it misses, one line each."""
        gates = self.entry["gates"]
        return list(gates) if isinstance(gates, list) else []


def base_of(bundle: Bundle, name: str | None) -> Path:
    """The model under a bundle's adapters: ``name``, or what the bundle was built from. Raises InputError."""
    try:
        return find_model(name or bundle.base, Path.cwd())
    except InputError as error:
        if name is not None:
            raise
        raise InputError(
            f"--test: the adapter is measured beside the base it was trained on; name it with --model ({error})"
        ) from None


def try_adapter(
    bundle: Bundle,
    name: str,
    folder: Path,
    given: GivenTests,
    model: Path,
    scratch: Path,
    *,
    allow_base_mismatch: bool,
    sink: Sink,
) -> Trial:
    """Measure the PEFT adapter of ``folder`` as ``name`` of a bundle that is left as it is.

    ``scratch`` is an empty folder for the copy and the stages. Raises InputError for adapters and rows that are
    refused, EdgepeftError where a stage fails.
    """
    given.rows()
    copied = scratch / "bundle"
    try:
        shutil.copytree(bundle.path, copied, ignore=shutil.ignore_patterns(ADAPTERS))
    except OSError as error:
        raise writing_failed(copied, error) from None
    copy = Bundle.open(copied, check="sizes")
    added = add_adapter(copy, name, folder, allow_base_mismatch=allow_base_mismatch)
    target = bundle.manifest["settings"]["target"]
    execution = choose_execution(bundle.provider, target["io_dtype"], target["verify_provider"])
    # It is measured as the bundle is asked.
    policy = policy_of(bundle.manifest["result"].get("prompt") or {})
    data = at_default(given.data, *given.data.elsewhere, "max_length").model_copy(
        update={"control_tokens": policy}
    )
    files = {"test": given.path, "adapter": folder}
    if given.generic is not None:
        files["generic"] = given.generic
    if given.template not in TEMPLATE_WORDS:
        files["template"] = Path(given.template)
    with Workers() as workers:
        run = _Stages(scratch, workers, sink)
        base = run(BASE, BaseSettings(tokens=tuple(given.data.tokens)), {"model": model})
        merge = Merge(allow_base_mismatch=allow_base_mismatch, grid=base_facts(base).seen_grid)
        settings = ReferenceSettings(merge=merge, data=data)
        reference = run(REFERENCE, settings, {"base": base, **files})
        slots = slots_of(copy)
        frozen = FrozenBase.model_validate({"grid": slots.grid, "quantized": slots.quantized})
        witness = run(
            WITNESS,
            WitnessSettings(merge=merge, data=data, frozen=frozen),
            {"base": base, "model": model, **files},
        )
        measured = run(
            VERIFY,
            VerifySettings(execution=execution),
            {
                "bundle": copied,
                "reference": reference,
                "base": base,
                "witness": witness,
                "adapter": added.path,
            },
        )
    return Trial(seal_adapter(added.path, measured, given.gates), measured)


class _Stages:
    """Runs stages into folders of a scratch folder."""

    def __init__(self, scratch: Path, workers: Workers, sink: Sink) -> None:
        self._scratch, self._workers, self._sink = scratch, workers, sink

    def __call__(
        self, spec: StageSpec, settings: StageSettings, inputs: Mapping[str, Path]
    ) -> Path:
        """Run one; its folder."""
        kind = spec.kind
        final = self._scratch / kind
        function, work = spec.functions[""], self._scratch / "work"
        stage = Stage(kind, kind, function, settings, {}, {}, kind, final, work)
        log = self._scratch / f"{kind}.log"
        carry_out(Order(stage, inputs, {}, log, seed=0), self._workers, self._sink)
        return final
