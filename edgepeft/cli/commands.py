"""The subcommands of ``edgepeft``, each in a module of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from edgepeft import __version__
from edgepeft.cli import (
    adapters,
    bench,
    build,
    combine,
    compare,
    compress,
    data,
    doctor,
    evaluate,
    extract,
    init,
    inspect,
    methods,
    models,
    plan,
    push,
    run,
    runs,
    schema,
    serve,
    stages,
    targets,
    tui,
)
from edgepeft.cli.help import ADAPTERS, BUILD, INSPECT, RUN, GroupedCommands, example


class Raised(Exception):
    """Carries an exception of a command past typer, which would end the process on some kinds of it by itself."""


class _Commands(GroupedCommands):
    """The group of all commands; what one of them raises reaches ``main``."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except (OSError, EOFError, KeyboardInterrupt) as error:
            raise Raised from error


app = typer.Typer(
    name="edgepeft",
    cls=_Commands,
    help="Fine-tune, merge, quantize and export a language model. Each bundle is measured against the model you "
    "trained; a build whose bundle misses a gate fails.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _add(group: str, name: str, command: Callable[..., None], line: str) -> None:
    """Register a command in a group of the list, with a line that shows how it is called."""
    app.command(name, rich_help_panel=group, epilog=example(line))(command)


_add(BUILD, "init", init.command, "edgepeft init --model smollm2-135m-instruct --data rows.csv")
_add(BUILD, "build", build.command, "edgepeft build recipe.yaml")
_add(BUILD, "train", stages.COMMANDS["train"], "edgepeft train recipe.yaml --out runs/mine")
_add(BUILD, "merge", stages.COMMANDS["merge"], "edgepeft merge --model base --adapter mine")
_add(BUILD, "quantize", stages.COMMANDS["quantize"], "edgepeft quantize recipe.yaml")
_add(BUILD, "export", stages.COMMANDS["export"], "edgepeft export recipe.yaml --layout genai")
_add(BUILD, "verify", stages.COMMANDS["verify"], "edgepeft verify runs/mine/bundles/cpu-int4")
_add(BUILD, "compare", compare.command, "edgepeft compare runs/mine --vary quantize.head=int4,int8")
_add(ADAPTERS, "combine", combine.command, "edgepeft combine first second --method svd --out both")
_add(ADAPTERS, "compress", compress.command, "edgepeft compress mine --rank 8 --out smaller")
_add(ADAPTERS, "extract", extract.command, "edgepeft extract base tuned --rank 16 --out mine")
_add(RUN, "run", run.command, 'edgepeft run runs/mine "Turn on the light."')
_add(RUN, "serve", serve.command, "edgepeft serve runs/mine --port 8000")
app.add_typer(
    adapters.app,
    name="adapters",
    rich_help_panel=ADAPTERS,
    epilog=example("edgepeft adapters list runs/mine/bundles/cpu-int4"),
)
_add(RUN, "push", push.command, "edgepeft push runs/mine/bundles/cpu-int4 me/mine")
_add(RUN, "eval", evaluate.command, "edgepeft eval runs/mine --tasks hellaswag --limit 100")
_add(RUN, "bench", bench.command, "edgepeft bench runs/mine/bundles/cpu-int4")
_add(BUILD, "plan", plan.command, "edgepeft plan recipe.yaml --price 1.20")
_add(INSPECT, "data", data.command, "edgepeft data recipe.yaml --rows 5")
_add(INSPECT, "inspect", inspect.command, "edgepeft inspect runs/mine")
_add(INSPECT, "doctor", doctor.command, "edgepeft doctor")
_add(INSPECT, "models", models.command, "edgepeft models")
_add(INSPECT, "methods", methods.command, "edgepeft methods qlora")
_add(INSPECT, "targets", targets.command, "edgepeft targets --json")
_add(INSPECT, "schema", schema.command, "edgepeft schema > recipe.schema.json")
_add(INSPECT, "runs", runs.command, "edgepeft runs")
_add(BUILD, "tui", tui.command, "edgepeft tui")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgepeft {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options of the command itself."""
