"""Sealing a bundle: the fidelity report and the card are put into it, and the verdict into its manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepeft.config.target_sections import Gates
from edgepeft.errors import EdgepeftError
from edgepeft.evaluation.card import adapter_cost, card
from edgepeft.evaluation.card_metadata import Origins, card_metadata, has_metadata
from edgepeft.evaluation.gates import learned_little, missed_gates
from edgepeft.metrics.names import vocabulary
from edgepeft.runs.digests import hash_file
from edgepeft.runs.folder import MANIFEST, read_manifest
from edgepeft.utils.whole_files import write_json, write_text

FIDELITY = "fidelity.json"
CARD = "README.md"


def seal_adapter(folder: Path, measures: Path | None, gates: Gates) -> dict[str, Any]:
    """Put an adapter's measures and verdict beside it in a hot-swap bundle; its entry for ``build --json``."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise EdgepeftError(f"{folder}: has no readable {MANIFEST}; run the same command again")
    facts = manifest["result"]
    entry = {
        "name": facts["adapter"],
        "path": str(folder),
        **{key: facts[key] for key in ("rank", "trained_on", "served_on", "same_base")},
    }
    if measures is None:
        return {**entry, "gates": None, "fidelity": None}
    measured = _result(measures)
    verdict: str | list[str] = missed_gates(measured, gates) or "passed"
    report = {
        "adapter": entry["name"],
        "gates": verdict,
        "bounds": gates.model_dump(mode="json"),
        "fidelity": measured,
    }
    if not _is_sealed(folder, manifest, report, (FIDELITY,)):
        write_json(folder / FIDELITY, report)
        _list_outputs(folder, manifest, (FIDELITY,))
        fidelity = {key: measured[key] for key in vocabulary(measured).contract}
        write_json(folder / MANIFEST, {**manifest, "fidelity": {"gates": verdict, **fidelity}})
    return {**entry, "gates": verdict, "fidelity": measured}


def seal(
    bundle: Path,
    *,
    measures: Path | None,
    quantized: Path | None,
    gates: Gates,
    adapters: Sequence[Mapping[str, Any]] = (),
    origins: Origins | None = None,
) -> dict[str, Any]:
    """Put report, card and verdict into a bundle and return its entry for ``build --json``.

    ``measures`` and ``quantized`` are finished stage folders; without measures the bundle stays unverified.
    ``adapters`` are entries of ``seal_adapter``: a hot-swap bundle passes when all of them do. ``origins`` say
    where base and data come from.
    """
    manifest = read_manifest(bundle)
    if manifest is None:
        raise EdgepeftError(f"{bundle}: has no readable {MANIFEST}; run the same command again")
    entry = {
        "target": manifest["result"]["target"],
        "path": str(bundle),
        "model_file": str(bundle / manifest["result"]["model_file"]),
        **({"adapters": list(adapters)} if adapters else {}),
    }
    if measures is None:
        return {**entry, "bytes": folder_bytes(bundle), "gates": None, "fidelity": None}
    facts = _result(measures)
    kept = _result(quantized) if quantized else {}
    missed = missed_gates(facts, gates)
    if adapters:
        missed = [
            f"{one['name']}: {gate}"
            for one in adapters
            for gate in (one["gates"] if isinstance(one["gates"], list) else [])
        ]
    verdict: str | list[str] = missed or "passed"
    warnings = _warnings(facts, manifest["result"].get("inside"))
    report = {
        "target": entry["target"],
        "base": manifest["result"]["base"],
        "gates": verdict,
        "warnings": warnings,
        "bounds": gates.model_dump(mode="json"),
        "fidelity": {**{key: facts[key] for key in vocabulary(facts).contract}, **facts},
        "weights": {
            "linear": kept.get("linear", manifest["settings"]["target"]["precision"]),
            "head": kept.get("head", manifest["settings"]["target"]["precision"]),
            "embedding": kept.get("embedding", manifest["settings"]["target"]["precision"]),
            "algorithm": kept.get("algorithm"),
            "tied": kept.get("tied"),
            "accuracy_level": manifest["result"].get("accuracy_level"),
            "divergence": kept.get("divergence"),
            "layer_errors": kept.get("layer_errors"),
        },
        "adapters": [adapter_cost(one) for one in adapters],
        "runtimes": manifest["result"]["runtimes"],
        **(origins or Origins()).as_dict(),
    }
    if "virtual_tokens" in manifest["result"]:
        report["virtual_tokens"] = manifest["result"]["virtual_tokens"]["count"]
    _write_if_changed(bundle, manifest, report, verdict)
    size = folder_bytes(bundle)
    return {
        **entry,
        "bytes": size,
        "gates": verdict,
        "warnings": warnings,
        "fidelity": report["fidelity"],
    }


def _warnings(facts: Mapping[str, Any], inside: str | None) -> list[str]:
    """What is no gate and yet must be said of a bundle; ``inside`` names a larger model that its base is of."""
    little, found = learned_little(facts), []
    if inside is not None:
        found.append(f"it takes text alone: what {inside} has for images is left out")
    if little is not None:
        found.append(f"the adapter hardly improves on its base on these test rows: {little}")
    return found


def _list_outputs(folder: Path, manifest: dict[str, Any], names: Sequence[str]) -> None:
    for name in names:
        path = folder / name
        manifest["outputs"][name] = {"sha256": hash_file(path), "bytes": path.stat().st_size}


def _write_if_changed(
    bundle: Path, manifest: dict[str, Any], report: dict[str, Any], verdict: str | list[str]
) -> None:
    """Add report and card to the bundle; its manifest, written last, lists them."""
    # Cards of earlier versions have no metadata for the hub.
    if _is_sealed(bundle, manifest, report, (FIDELITY, CARD)) and has_metadata(bundle / CARD):
        return
    write_json(bundle / FIDELITY, report)
    # The card states the folder's size, which the card itself is part of; a rounded figure settles that.
    size = folder_bytes(bundle)
    write_text(bundle / CARD, card_metadata(report) + card(report, size, _needs(manifest)))
    _list_outputs(bundle, manifest, (FIDELITY, CARD))
    facts = report["fidelity"]
    fidelity = {key: facts[key] for key in vocabulary(facts).contract}
    write_json(bundle / MANIFEST, {**manifest, "fidelity": {"gates": verdict, **fidelity}})


def _is_sealed(
    bundle: Path, manifest: Mapping[str, Any], report: Mapping[str, Any], names: Sequence[str]
) -> bool:
    """Whether the folder holds this very report and the manifest vouches for it: a killed seal is begun anew."""
    try:
        written = json.loads((bundle / FIDELITY).read_text(encoding="utf-8"))
        hashes = {name: hash_file(bundle / name) for name in names}
    except (OSError, ValueError):
        return False
    outputs = manifest["outputs"]
    listed = {name: outputs.get(name, {}).get("sha256") for name in hashes}
    return bool(written == report and listed == hashes)


def _needs(manifest: Mapping[str, Any]) -> str:
    """What the target that a bundle was built for asks of a machine."""
    return str(manifest["settings"]["target"].get("needs", ""))


def _result(stage: Path) -> dict[str, Any]:
    result: dict[str, Any] = (read_manifest(stage) or {})["result"]
    return result


def folder_bytes(folder: Path) -> int:
    """Bytes of every file in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
