"""``edgepeft eval``: a bundle on the tasks of lm-evaluation-harness."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgepeft.cli.bundles import (
    BundleArgument,
    CheckOption,
    ProviderOption,
    SwappedOption,
    ThreadsOption,
    open_bundle,
    warn,
)
from edgepeft.cli.options import JsonOption, ProgressMode, ProgressOption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepeft.harness.results import EvalResult, TaskScores


def command(
    bundle: BundleArgument,
    tasks: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="Tasks, groups or tags of lm_eval, with commas; a name may be a pattern, as 'mmlu_*'.",
            show_default=False,
        ),
    ],
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Most rows of each task; default: all.", show_default=False),
    ] = None,
    num_fewshot: Annotated[
        int | None,
        typer.Option(
            min=0, help="Examples shown before each row; default: the task's.", show_default=False
        ),
    ] = None,
    task_folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A folder with task files of your own. Python that they name is run; relative paths of rows "
            "begin there.",
            show_default=False,
        ),
    ] = None,
    adapter: SwappedOption = None,
    chat: Annotated[
        bool,
        typer.Option(
            "--chat/--no-chat",
            help="Ask through the bundle's template, as on the device, or hand over lm_eval's plain texts.",
        ),
    ] = True,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**31 - 1,
            help="Seed of the examples shown and of sampled answers; default: lm_eval's.",
            show_default=False,
        ),
    ] = None,
    threads: ThreadsOption = None,
    provider: ProviderOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Write the JSON object to a file too.",
            show_default=False,
        ),
    ] = None,
    check: CheckOption = True,
    as_json: JsonOption = False,
    progress: ProgressOption = ProgressMode.auto,
) -> None:
    """Evaluate a bundle on tasks of lm-evaluation-harness.

    Log-likelihoods come out of the graph that ships, answers out of its runtime. Rows that are not on this
    machine are fetched from the hub.
    \f
    Raises InputError, MissingError and EdgepeftError as ``evaluate`` does, InterruptedRun when
    Ctrl-C ends it.
    """
    from edgepeft.harness.needs import refuse_encoder, require_harness

    require_harness()
    from edgepeft.cli.progress import show_events
    from edgepeft.errors import InputError, InterruptedRun
    from edgepeft.events import Events
    from edgepeft.harness.run import Asked, Engine, evaluate
    from edgepeft.utils.whole_files import require_writable, write_json

    names = [name for name in map(str.strip, tasks.split(",")) if name]
    if not names:
        raise InputError("--tasks: names no task; give one or more, with commas")
    if out is not None:
        require_writable(out)
    opened = open_bundle(bundle, check=check)
    refuse_encoder(opened)
    warn(opened.warning)
    asked = Asked(names, task_folder, limit, num_fewshot, chat, seed)
    try:
        with show_events(progress) as sink:
            result = evaluate(
                opened, asked, Engine(adapter, threads, provider), Events("eval", sink)
            )
    except KeyboardInterrupt:
        raise InterruptedRun("eval: interrupted") from None
    if out is not None:
        write_json(out, result.as_dict())
    if as_json:
        typer.echo(json.dumps(result.as_dict(), indent=2))
    else:
        _print(result)


def _print(result: EvalResult) -> None:
    from edgepeft.cli.tables import print_table
    from edgepeft.utils.quantities import duration

    print_table(
        ["task", "measure", "value", "± stderr", "rows", "examples"],
        [*_rows(result.tasks), *_rows(result.groups)],
    )
    how = "asked through its template" if result.chat else "asked without a template"
    typer.echo(f"{result.bundle}: {how}, {duration(result.seconds)}")


def _rows(scores: Mapping[str, TaskScores]) -> list[list[str]]:
    """A row for each measure; what is the task's stands in the first."""
    from edgepeft.utils.quantities import number

    rows = []
    for name, task in scores.items():
        shots = "–" if task.fewshot is None else str(task.fewshot)
        for index, (measure, score) in enumerate(task.metrics.items()):
            better = {True: " ↑", False: " ↓", None: ""}[score.higher_is_better]
            first = [name, str(task.samples), shots] if index == 0 else ["", "", ""]
            rows.append(
                [
                    first[0],
                    f"{measure}{better}",
                    number(score.value),
                    number(score.stderr),
                    *first[1:],
                ]
            )
    return rows
