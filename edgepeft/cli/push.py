"""``edgepeft push``: a bundle with its card put on the model hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edgepeft.cli.options import JsonOption
from edgepeft.cli.streams import say


def command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder.")],
    name: Annotated[
        str, typer.Argument(metavar="ORG/NAME", help="The model's id; it is made if need be.")
    ],
    private: Annotated[
        bool,
        typer.Option("--private", help="Make the model for nobody but you and your organization."),
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option(metavar="BRANCH", help="Branch to commit to; it is made if need be."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Push what missed a gate or was never measured, and beside other files."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Upload a bundle to the model hub, with its card.

    All its files are compared with its manifest first. A bundle that missed a gate, or was not measured, is
    refused (exit status 4). The token is huggingface_hub's: `hf auth login`, or HF_TOKEN.
    """
    from edgepeft import __version__
    from edgepeft.bundle.layout import ADAPTERS
    from edgepeft.bundle.manifest import MANIFEST, read_adapter_manifest
    from edgepeft.errors import GateError, InputError
    from edgepeft.hub.ids import RepoId, parse_id
    from edgepeft.hub.push import push_files
    from edgepeft.runtime.adapters import adapter_names, open_adapter
    from edgepeft.runtime.bundle import Bundle

    asked = parse_id(name)
    if asked is None:
        raise InputError(f"{name}: not an id of the hub; write it as org/name")
    if asked.revision is not None:
        if revision is not None:
            raise InputError(f"{name}: names a branch, and so does --revision; leave one out")
        revision = asked.revision
    target = RepoId(asked.repo, revision)
    opened = Bundle.open(bundle, check="hashes")
    adapters = [open_adapter(opened, one, check="hashes") for one in adapter_names(opened)]
    missed = list(opened.gates or ())
    missed += [f"{one.name}: {gate}" for one in adapters for gate in one.gates or ()]
    if not force and (opened.gates is None or missed):
        why = f"missed {'; '.join(missed)}" if missed else "was never measured (`edgepeft verify`)"
        raise GateError(f"{bundle}: {why}; build it anew, or push it all the same with --force")
    files = [*opened.manifest["outputs"], MANIFEST]
    for adapter in adapters:
        inside = [*read_adapter_manifest(adapter.path / MANIFEST)["outputs"], MANIFEST]
        files += [f"{ADAPTERS}/{adapter.name}/{file}" for file in inside]
    done = push_files(
        opened.path,
        files,
        target,
        manifest=MANIFEST,
        private=private,
        force=force,
        message=f"{opened.base} for {opened.target}, by edgepeft {__version__}",
        tell=lambda line: typer.echo(line, err=True),
    )
    if as_json:
        verdict = missed or (None if opened.gates is None else "passed")
        typer.echo(json.dumps({**done.as_dict(), "gates": verdict}, indent=2))
    else:
        say(f"pushed   {done.url}")
        say(f"commit   {done.commit}")
