"""The package's extras, read off its own metadata: what each is for, how it is installed, what it lacks here."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

PACKAGE = "edgepeft"

PURPOSES = {
    "cpu": "run and verify bundles on a CPU",
    "cuda": "run bundles on an NVIDIA GPU",
    "webgpu": "run bundles on any GPU through WebGPU",
    "trt-rtx": "run bundles on an NVIDIA RTX GPU through TensorRT",
    "train": "train adapters",
    "export": "merge, quantize and export",
    "serve": "serve bundles to OpenAI's clients",
    "guided": "bound answers by a JSON Schema or a grammar",
    "eval": "evaluate bundles on the tasks of lm-evaluation-harness",
    "cluster": "build a matrix on a Dask cluster",
    "tui": "the wizard in a terminal or a browser",
    "tensorboard": "show trainings in TensorBoard",
    "wandb": "report trainings to Weights & Biases",
    "mlflow": "report trainings to MLflow",
    "trackio": "report trainings to Trackio",
    "all": "cpu, train, export, serve, guided and tui",
    "docs": "build the documentation as a site",
    "dev": "work on edgepeft itself",
}
"""The metadata has a name for each extra and no word on what it is for."""


@dataclass(frozen=True)
class Unsuitable:
    """A library that is installed in a version that an extra can't use; ``needs`` is as ">=2.10"."""

    name: str
    installed: str
    needs: str


@dataclass(frozen=True)
class Extra:
    """One extra; ``missing`` names libraries."""

    name: str
    missing: tuple[str, ...]
    unsuitable: tuple[Unsuitable, ...]

    @property
    def purpose(self) -> str:
        """What it is for, in a few words."""
        return PURPOSES.get(self.name, "")

    @property
    def complete(self) -> bool:
        """Whether all of it is there."""
        return not (self.missing or self.unsuitable)

    @property
    def install(self) -> str:
        """The command that installs it."""
        return f"pip install '{PACKAGE}[{self.name}]'"

    @property
    def state(self) -> str:
        """That it is complete, or what it lacks."""
        lacks = [f"{one.name} {one.installed} is not {one.needs}" for one in self.unsuitable]
        if self.missing:
            lacks.insert(0, f"missing {', '.join(self.missing)}")
        return "; ".join(lacks) or "complete"

    def as_json(self) -> dict[str, Any]:
        """The facts as ``edgepeft doctor --json`` has them."""
        return {
            "for": self.purpose,
            "complete": self.complete,
            "adds": list(self.missing),
            "unsuitable": [vars(one) for one in self.unsuitable],
            "install": self.install,
        }


def extras() -> list[Extra]:
    """Every extra in the metadata's order; none where edgepeft runs without being installed."""
    try:
        names = importlib.metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [_extra(name) for name in names]


def floor(library: str) -> Requirement | None:
    """What the metadata asks of a library; None where it asks nothing."""
    return next((one for one in _requirements() if one.name == library), None)


def fits(requirement: Requirement, version: str) -> bool:
    """Whether a version is within what is required; its pre-releases and local builds are taken for itself."""
    try:
        base = Version(version).base_version
    except InvalidVersion:  # nothing can be said of it
        return True
    return requirement.specifier.contains(base, prereleases=True)


def installed_version(library: str) -> str | None:
    """The version of a library that is installed; None where it is not."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def installed_versions(libraries: Iterable[str]) -> dict[str, str]:
    """Versions of those of ``libraries`` that are installed, and edgepeft's own."""
    found = {library: installed_version(library) for library in (PACKAGE, *libraries)}
    return {library: version for library, version in found.items() if version is not None}


def _requirements() -> list[Requirement]:
    try:
        return [Requirement(line) for line in importlib.metadata.requires(PACKAGE) or []]
    except importlib.metadata.PackageNotFoundError:
        return []


def _extra(name: str) -> Extra:
    missing, unsuitable = [], []
    for one in _requirements():
        if one.marker is None or not one.marker.evaluate({"extra": name}):
            continue
        version = installed_version(one.name)
        if version is None:
            missing.append(one.name)
        elif not fits(one, version):
            unsuitable.append(Unsuitable(one.name, version, str(one.specifier)))
    return Extra(name, tuple(missing), tuple(unsuitable))
