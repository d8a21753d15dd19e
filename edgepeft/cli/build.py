"""``edgepeft build``, and what it shares with the commands that run fewer stages."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgepeft.cli.options import (
    AdapterOption,
    ClusterOption,
    DataOption,
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
    RecipeArgument,
    SetOption,
    StepsOption,
    TargetOption,
)
from edgepeft.cli.recipe_choice import Short, check_matrix, recipe_from, with_mismatch
from edgepeft.cli.reports import (
    JunitOption,
    Report,
    SummaryOption,
    refuse_reports,
    reporting,
)
from edgepeft.cli.streams import say

if TYPE_CHECKING:
    # Reading recipes loads pydantic, which --help has no use for.
    from edgepeft.config.loader import RecipeFile


def command_until(until: str, text: str) -> Callable[..., None]:
    """The command that runs a recipe's stages up to those of kind ``until``; ``text`` is its help."""

    def command(
        recipe: RecipeArgument = None,
        overrides: SetOption = None,
        model: ModelOption = None,
        adapter: AdapterOption = None,
        data: DataOption = None,
        target: TargetOption = None,
        steps: StepsOption = None,
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
        from edgepeft.config.run_recipe import run_folder

        overrides = [*(overrides or []), *([f"layout={layout}"] if layout is not None else [])]
        short = Short(model, adapter, data, target, steps)
        loaded = recipe_from(recipe, with_mismatch(overrides, allow_base_mismatch), short)
        folder = run_folder(loaded, out, recipe)
        given = {"--only": only, "--jobs": jobs, "--memory": memory, "--cluster": cluster}
        check_matrix(loaded, given)
        if dry_run:
            refuse_reports(junit, summary)
            from edgepeft.cli.plan import show_plan

            show_plan(loaded, folder, until=until, as_json=as_json, only=only)
            return
        with reporting(junit, summary, loaded.name) as report:
            if not loaded.recipe.matrix:
                carry_out(
                    until,
                    loaded,
                    folder,
                    as_json=as_json,
                    fresh=fresh,
                    force=force,
                    progress=progress,
                    report=report,
                )
                return
            from edgepeft.cli.fleet import carry_out_fleet

            carry_out_fleet(
                until,
                loaded,
                folder,
                only=only or [],
                jobs=jobs,
                memory=memory,
                cluster=cluster,
                as_json=as_json,
                fresh=fresh,
                force=force,
                progress=progress,
                report=report,
            )

    command.__doc__ = text
    if until != "verify":
        _leave_out(command, "junit", "summary")
    return command


def _leave_out(command: Callable[..., None], *options: str) -> None:
    """Take options off a command that have nothing to say there."""
    whole = inspect.signature(command, eval_str=True)
    kept = [one for name, one in whole.parameters.items() if name not in options]
    command.__signature__ = whole.replace(parameters=kept)  # type: ignore[attr-defined]


command = command_until(
    "verify",
    """Train, merge, quantize, export and verify, as the recipe says.

    Exit status: 0 done, 1 failed, 2 wrong usage, recipe or input data, 3 missing dependency or hardware, 4 missed
    fidelity gate, 130 interrupted. After an interruption the same command resumes. A recipe with a matrix is
    built cell by cell; what cells have in common is built once, and the exit status is that of the worst cell.
    """,
)


def carry_out(
    until: str,
    recipe: RecipeFile,
    folder: Path,
    *,
    as_json: bool,
    fresh: bool,
    force: bool,
    progress: ProgressMode,
    report: Report,
) -> None:
    """Run the stages up to ``until`` and print the outcome."""
    from edgepeft.cli.advice import say_advice
    from edgepeft.cli.progress import show_events
    from edgepeft.cli.tables import print_table
    from edgepeft.evaluation.table import answer_lines, call_lines, table_rows, witness_lines
    from edgepeft.pipeline.build import build
    from edgepeft.utils.quantities import duration

    with show_events(progress) as sink:
        result = build(recipe, folder, until=until, fresh=fresh, force=force, sink=sink)
    report.add_bundles(result.bundles)
    if as_json:
        typer.echo(json.dumps(result.as_dict(), indent=2))
    else:
        if any(bundle["fidelity"] for bundle in result.bundles):
            bundles = result.bundles
            for line in (*answer_lines(bundles), *call_lines(bundles), *witness_lines(bundles)):
                typer.echo(line)
            print_table(*table_rows(result.bundles))
        if result.adapter:
            say(f"adapter  {result.adapter}")
        if result.merged:
            say(f"merged   {result.merged}")
        for bundle in result.bundles:
            say(f"bundle   {bundle['path']}")
        reused = f", {len(result.reused)} stages reused" if result.reused else ""
        say(f"done in {duration(result.seconds)}{reused}")
    say_advice(result.bundles, progress)
    result.require_gates()
