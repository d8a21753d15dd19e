"""The stages of a build as commands of their own: each runs what it needs, up to itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from edgepeft.cli.build import command as build
from edgepeft.cli.build import command_until
from edgepeft.cli.options import (
    AdapterOption,
    ClusterOption,
    DryRunOption,
    ForceOption,
    FreshOption,
    JobsOption,
    JsonOption,
    LayoutOption,
    MemoryOption,
    MismatchOption,
    ModelOption,
    OnlyOption,
    OutOption,
    ProgressMode,
    ProgressOption,
    SetOption,
)
from edgepeft.cli.reports import JunitOption, SummaryOption, reporting


def verify(
    subject: Annotated[
        Path, typer.Argument(metavar="RECIPE|BUNDLE", help="A recipe, or a bundle's folder.")
    ],
    overrides: SetOption = None,
    model: ModelOption = None,
    adapter: AdapterOption = None,
    layout: LayoutOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    fresh: FreshOption = False,
    force: ForceOption = False,
    allow_base_mismatch: MismatchOption = False,
    only: OnlyOption = None,
    jobs: JobsOption = None,
    memory: MemoryOption = None,
    cluster: ClusterOption = None,
    progress: ProgressOption = ProgressMode.auto,
    junit: JunitOption = None,
    summary: SummaryOption = None,
) -> None:
    """Measure a recipe's bundles against the reference, or check that a bundle is complete and loads.

    For a recipe, every stage that is needed is run. The files of a bundle are compared with its manifest and the
    graph is loaded; the recorded measurements are printed.
    """
    if subject.is_dir():
        from edgepeft.cli.check_bundle import check_bundle

        with reporting(junit, summary, subject.resolve().name) as report:
            check_bundle(subject, as_json=as_json, report=report)
        return
    build(
        recipe=subject,
        overrides=overrides,
        model=model,
        adapter=adapter,
        layout=layout,
        out=out,
        as_json=as_json,
        dry_run=dry_run,
        fresh=fresh,
        force=force,
        allow_base_mismatch=allow_base_mismatch,
        only=only,
        jobs=jobs,
        memory=memory,
        cluster=cluster,
        progress=progress,
        junit=junit,
        summary=summary,
    )


COMMANDS: dict[str, Callable[..., None]] = {
    "train": command_until("train", "Train the recipe's adapter; later stages are not run."),
    "merge": command_until(
        "merge",
        "Merge the adapter into the base it was trained on; later stages are not run.\n\n"
        "With --model and --adapter no recipe is needed.",
    ),
    "quantize": command_until(
        "quantize", "Quantize the merged weights for the targets; later stages are not run."
    ),
    "export": command_until("export", "Export the targets' bundles without measuring them."),
    "verify": verify,
}
