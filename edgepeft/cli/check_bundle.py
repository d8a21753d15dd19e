"""Checking a finished bundle where it lies: whole, loadable, and what was measured when it was built."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from edgepeft.cli.reports import Report
from edgepeft.errors import GateError

_OF_THE_HUB = (".gitattributes", ".cache/huggingface/")
"""What the hub and its client put beside a bundle's files, which no runtime reads."""


def check_bundle(folder: Path, *, as_json: bool, report: Report) -> None:
    """Compare a bundle with its manifest, load its graph, print its measures.

    Raises InputError for a bundle that isn't what its manifest says, no more and no less, GateError.
    """
    from edgepeft.bundle.listing import refuse_unlisted
    from edgepeft.models.tasks import GENERATION
    from edgepeft.runtime.adapters import adapter_names, open_adapter, unlisted_files
    from edgepeft.runtime.bundle import Bundle
    from edgepeft.runtime.decoder_session import GraphSession
    from edgepeft.runtime.encoder import EncoderSession

    bundle = Bundle.open(folder, check="hashes")
    adapters = [open_adapter(bundle, name, check="hashes") for name in adapter_names(bundle)]
    refuse_unlisted(
        bundle.path, [name for name in unlisted_files(bundle) if not name.startswith(_OF_THE_HUB)]
    )
    provider = bundle.manifest["result"].get("verify_provider", bundle.provider)
    (GraphSession if bundle.task == GENERATION else EncoderSession)(bundle, providers=[provider])
    report.add_sealed(bundle.path, bundle.target)
    recorded = bundle.manifest.get("fidelity")
    facts = {
        "path": str(bundle.path),
        "target": bundle.target,
        "files": len(bundle.manifest["outputs"]),
        "whole": True,
        "runtimes": list(bundle.runtimes),
        "fidelity": recorded,
        **({"adapters": [adapter.name for adapter in adapters]} if adapters else {}),
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        typer.echo(f"{bundle.path}: {facts['files']} files match the manifest, the graph loads")
        typer.echo(f"runtimes: {', '.join(bundle.runtimes)}")
        if adapters:
            typer.echo(f"{len(adapters)} adapters match this bundle")
        typer.echo(json.dumps(recorded, indent=2) if recorded else "never measured")
    if bundle.gates:
        raise GateError("gate missed when built: " + "; ".join(bundle.gates))
