"""The quantization error of each layer of what a run built, or has built so far."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepeft.evaluation.seal import FIDELITY
from edgepeft.runs.folder import MANIFEST
from edgepeft_tui.run_files import Damaged, read_json, read_rounding

NO_LAYERS = "This run has no layer errors. Only calibrated rounding (gptq) measures them."
NOTICEABLE, LARGE = 0.05, 0.15
"""Errors from which a layer is no longer green, and from which it is red where a gate is missed.

A share of what the exact layer adds. Rounding to 4 bits that passes its gates leaves layers at 0.03 to 0.11.
"""


@dataclass(frozen=True)
class LayerErrors:
    """The error of each layer under one rounding, as a share of what the exact layer adds.

    ``passed`` is what the gates said of the bundle, None where nothing was measured.
    """

    name: str
    errors: tuple[float, ...]
    weights: str = ""
    passed: bool | None = None

    @property
    def ranking(self) -> list[int]:
        """The layers, the worst first."""
        return sorted(range(len(self.errors)), key=lambda layer: -self.errors[layer])

    def colour(self, error: float) -> str:
        """The variable of a layer's colour: red only for a large error where a gate is missed."""
        if error < NOTICEABLE:
            return "$text-success"
        return "$text-error" if error >= LARGE and self.passed is False else "$text-warning"


def layers_of(run: Path, bundles: Sequence[Mapping[str, Any]] = ()) -> list[LayerErrors]:
    """What a run has on record: of each of its bundles, else of the roundings that are finished.

    Only calibrated rounding measures layers; others have no entry, and damaged files have none.
    """
    if bundles:
        return [layers for bundle in bundles if (layers := _of_bundle(run, bundle))]
    return [layers for stage in _roundings(run) if (layers := _of_stage(stage))]


def _of_bundle(run: Path, bundle: Mapping[str, Any]) -> LayerErrors | None:
    """From the bundle's report; one that was not measured has none, so from the stage that rounded it."""
    folder, name = Path(bundle["path"]), str(bundle["target"])
    gates = bundle.get("gates")
    passed = None if gates is None else gates == "passed"
    with contextlib.suppress(Damaged, FileNotFoundError):
        if layers := _layers(name, read_rounding(folder / FIDELITY, "weights")):
            return replace(layers, passed=passed)
    key = ""
    with contextlib.suppress(Damaged, FileNotFoundError, KeyError, TypeError):
        key = str(read_json(folder / MANIFEST)["inputs"]["quantize"])
    for stage in _roundings(run) if key else ():
        if stage.name.endswith(f"-{key[:12]}") and (layers := _of_stage(stage, name)):
            return replace(layers, passed=passed)
    return None


def _roundings(run: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(run.glob("stages/quantize-*"), key=lambda path: path.stat().st_mtime)
    return []


def _of_stage(stage: Path, name: str = "") -> LayerErrors | None:
    shown = name or stage.name.removeprefix("quantize-").rpartition("-")[0]
    with contextlib.suppress(Damaged, FileNotFoundError):
        return _layers(shown, read_rounding(stage / MANIFEST, "result"))
    return None


def _layers(name: str, weights: Mapping[str, Any]) -> LayerErrors | None:
    errors = weights.get("layer_errors")
    if not errors:
        return None
    words = [weights[key] for key in ("algorithm", "linear") if weights.get(key)]
    return LayerErrors(name, tuple(map(float, errors)), ", ".join(words))
