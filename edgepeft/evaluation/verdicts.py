"""What became of each bundle, with every gate judged: what reports for build pipelines are written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepeft.bundle.layout import ADAPTERS
from edgepeft.bundle.manifest import MANIFEST
from edgepeft.config.target_sections import Gates
from edgepeft.errors import EdgepeftError
from edgepeft.evaluation.gates import Judged, judged_gates
from edgepeft.evaluation.seal import FIDELITY
from edgepeft.utils.files import read_json_object


@dataclass(frozen=True)
class Verdict:
    """A bundle by ``name``, or what else was asked for: its entry as ``build --json`` has it, None where there is
    no bundle because of an ``error``.

    ``gates`` are those of its measures, by adapter in a hot-swap bundle (else ""); empty where nothing was
    measured.
    """

    name: str
    entry: Mapping[str, Any] | None = None
    error: str | None = None
    gates: Mapping[str, tuple[Judged, ...]] = field(default_factory=dict)

    @property
    def missed(self) -> list[str]:
        """A line for each missed gate, an adapter's with its name in front."""
        return [
            f"{adapter}: {one.why}" if adapter else one.why
            for adapter, judged in self.gates.items()
            for one in judged
            if one.state == "missed"
        ]


def verdict_of(entry: Mapping[str, Any], name: str = "") -> Verdict:
    """The verdict on a sealed bundle, whose gates are judged by the bounds that it was sealed with."""
    name = name or str(entry.get("cell", entry["target"]))
    if not entry["fidelity"]:
        return Verdict(name, entry)
    adapters = [one for one in entry.get("adapters", ()) if one["fidelity"]]
    if adapters:
        judged = {one["name"]: _judged(Path(one["path"])) for one in adapters}
        return Verdict(name, entry, gates=judged)
    return Verdict(name, entry, gates={"": _judged(Path(entry["path"]))})


def sealed_verdict(bundle: Path, target: str) -> Verdict:
    """The verdict on a finished bundle where it lies; never measured, it has no gates."""
    if not (bundle / FIDELITY).is_file():
        return Verdict(target)
    report = _read(bundle / FIDELITY)
    size = sum(one["bytes"] for one in _read(bundle / MANIFEST)["outputs"].values())
    kept = {key: report[key] for key in ("target", "gates", "fidelity")}
    adapters = [
        {"name": file.parent.name, "path": str(file.parent), **_read(file)}
        for file in sorted((bundle / ADAPTERS).glob(f"*/{FIDELITY}"))
    ]
    return verdict_of({**kept, "path": str(bundle), "bytes": size, "adapters": adapters})


def _judged(folder: Path) -> tuple[Judged, ...]:
    report = _read(folder / FIDELITY)
    return tuple(judged_gates(report["fidelity"], Gates.model_validate(report["bounds"])))


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json_object(path, own=True)
    except OSError as error:
        raise EdgepeftError(f"{path}: cannot be read ({error.strerror})") from None
