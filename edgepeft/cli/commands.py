"""The subcommands of ``edgepeft``, each in a module of its own."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

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


class Raised(Exception):
    """Carries an exception of a command past typer, which would end the process on some kinds of it by itself."""


class _Commands(TyperGroup):
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

app.command("init")(init.command)
app.command("build")(build.command)
for _name, _command in stages.COMMANDS.items():
    app.command(_name)(_command)
app.command("compare")(compare.command)
app.command("combine")(combine.command)
app.command("compress")(compress.command)
app.command("extract")(extract.command)
app.command("run")(run.command)
app.command("serve")(serve.command)
app.add_typer(adapters.app, name="adapters")
app.command("bench")(bench.command)
app.command("plan")(plan.command)
app.command("data")(data.command)
app.command("push")(push.command)
app.command("inspect")(inspect.command)
app.command("doctor")(doctor.command)
app.command("models")(models.command)
app.command("methods")(methods.command)
app.command("targets")(targets.command)
app.command("schema")(schema.command)
app.command("runs")(runs.command)
app.command("tui")(tui.command)


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
