"""The ``edgepeft`` command: its subcommands, and how errors become exit statuses."""

from __future__ import annotations

import io
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

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
    extract,
    inspect,
    methods,
    models,
    plan,
    run,
    runs,
    schema,
    serve,
    stages,
    targets,
    tui,
)
from edgepeft.errors import EXIT_INTERRUPTED, EdgepeftError

app = typer.Typer(
    name="edgepeft",
    help="Fine-tune, merge, quantize and export a language model; the bundle is the model you trained, "
    "measured, or the build fails.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

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


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command; every error becomes one line on stderr and the exit status of its class."""
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        # What a terminal or a file's encoding has no character for is shown as an escape.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except EdgepeftError as error:
        print(f"edgepeft: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        print("edgepeft: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone; there is nobody left to tell.
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
