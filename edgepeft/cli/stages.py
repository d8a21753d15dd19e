"""The stages of a build as commands of their own: each runs what it needs, up to itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from edgepeft.cli.build import carry_out
from edgepeft.cli.options import (
    AdapterOption,
    DryRunOption,
    ForceOption,
    FreshOption,
    JsonOption,
    MismatchOption,
    ModelOption,
    OutOption,
    ProgressMode,
    ProgressOption,
    RecipeArgument,
    SetOption,
    with_mismatch,
)


def _stage_command(until: str, text: str) -> Callable[..., None]:
    def command(
        recipe: RecipeArgument = None,
        overrides: SetOption = None,
        model: ModelOption = None,
        adapter: AdapterOption = None,
        out: OutOption = None,
        as_json: JsonOption = False,
        dry_run: DryRunOption = False,
        fresh: FreshOption = False,
        force: ForceOption = False,
        allow_base_mismatch: MismatchOption = False,
        progress: ProgressOption = ProgressMode.auto,
    ) -> None:
        carry_out(
            until,
            recipe,
            with_mismatch(overrides, allow_base_mismatch),
            model,
            adapter,
            out,
            as_json,
            dry_run,
            fresh,
            force,
            progress,
        )

    command.__doc__ = text
    return command


def verify(
    subject: Annotated[
        Path, typer.Argument(metavar="RECIPE|BUNDLE", help="A recipe, or a bundle's folder.")
    ],
    overrides: SetOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    fresh: FreshOption = False,
    force: ForceOption = False,
    allow_base_mismatch: MismatchOption = False,
    progress: ProgressOption = ProgressMode.auto,
) -> None:
    """Measure a recipe's bundles against the reference, or check that a bundle is whole and loads.

    A recipe runs every stage it needs. A bundle's folder is checked byte by byte against its manifest and
    loaded; its recorded measurements are printed.
    """
    if subject.is_dir():
        from edgepeft.cli.check_bundle import check_bundle

        check_bundle(subject, as_json=as_json)
        return
    carry_out(
        "verify",
        subject,
        with_mismatch(overrides, allow_base_mismatch),
        None,
        None,
        out,
        as_json,
        dry_run,
        fresh,
        force,
        progress,
    )


COMMANDS: dict[str, Callable[..., None]] = {
    "train": _stage_command("train", "Train the recipe's adapter, and stop there."),
    "merge": _stage_command(
        "merge",
        "Merge the adapter into the base it was trained on, and stop there.\n\n"
        "With --model and --adapter no recipe is needed.",
    ),
    "quantize": _stage_command("quantize", "Round the merged weights to the targets' grids."),
    "export": _stage_command("export", "Write the targets' bundles, without measuring them."),
    "verify": verify,
}
