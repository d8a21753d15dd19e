"""How far rounding has moved each layer of what a run built, or has built so far."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepeft.fidelity.report import FIDELITY
from edgepeft.workspace import read_manifest


@dataclass(frozen=True)
class LayerErrors:
    """The error of each layer under one rounding, as a share of what the exact layer adds."""

    name: str
    errors: tuple[float, ...]
    weights: str = ""

    @property
    def ranking(self) -> list[int]:
        """The layers, the worst first."""
        return sorted(range(len(self.errors)), key=lambda layer: -self.errors[layer])


def layers_of(run: Path, bundles: Sequence[Mapping[str, Any]] = ()) -> list[LayerErrors]:
    """What a run has on record: of each of its bundles, else of the roundings that are finished.

    Only calibrated rounding measures layers; others have no entry.
    """
    found = [layers for bundle in bundles if (layers := _of_bundle(run, bundle))]
    if found or bundles:
        return found
    stages = [layers for stage in _roundings(run) if (layers := _of_stage(stage))]
    return stages


def _of_bundle(run: Path, bundle: Mapping[str, Any]) -> LayerErrors | None:
    """From the bundle's report; one that was not measured has none, so from the stage that rounded it."""
    folder, name = Path(bundle["path"]), str(bundle["target"])
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        weights = json.loads((folder / FIDELITY).read_text(encoding="utf-8"))["weights"]
        if weights["layer_errors"]:
            return _layers(name, weights)
    key = str(((read_manifest(folder) or {}).get("inputs") or {}).get("quantize") or "")
    for stage in _roundings(run) if key else ():
        if stage.name.endswith(f"-{key[:12]}"):
            return _of_stage(stage, name)
    return None


def _roundings(run: Path) -> list[Path]:
    return sorted(run.glob("stages/quantize-*"), key=lambda path: path.stat().st_mtime)


def _of_stage(stage: Path, name: str = "") -> LayerErrors | None:
    result = (read_manifest(stage) or {}).get("result") or {}
    with contextlib.suppress(KeyError, TypeError, ValueError):
        if result["layer_errors"]:
            shown = name or stage.name.removeprefix("quantize-").rpartition("-")[0]
            return _layers(shown, result)
    return None


def _layers(name: str, weights: Mapping[str, Any]) -> LayerErrors:
    words = [str(weights[key]) for key in ("algorithm", "linear") if weights.get(key)]
    errors = tuple(float(error) for error in weights["layer_errors"])
    return LayerErrors(name, errors, ", ".join(words))
