"""The ``edgepeft`` command as users start it, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

COMMAND = [sys.executable, "-m", "edgepeft.cli.app"]


def edgepeft(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end and return its output and exit status."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        timeout=600,
        check=False,
    )


def on_terminal(
    *arguments: object,
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = COMMAND,
    answers: Sequence[str] | None = None,
) -> tuple[int, bytes]:
    """Run the command with a terminal for its output; its exit status and all that reached the terminal.

    ``answers`` are typed there, a line each; without them nothing can be.
    """
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    for answer in answers or ():
        os.write(ours, answer.encode() + b"\n")
    with subprocess.Popen(
        [*program, *map(str, arguments)],
        stdin=subprocess.DEVNULL if answers is None else theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", **(env or {})},
    ) as process:
        os.close(theirs)
        shown = b""
        # The last reader of a terminal whose writers are gone gets EIO.
        with contextlib.suppress(OSError):
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
    return process.returncode, shown


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start the command and leave it running."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        # A shell makes what it starts in the background deaf to Ctrl-C; the tests may be run there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def build_json(*arguments: object) -> dict[str, Any]:
    """``build --json`` that must succeed; the object it prints."""
    done = edgepeft("build", *arguments, "--json", "--progress", "none")
    assert done.returncode == 0, done.stderr
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def write_recipe(path: Path, model: Path, data: tuple[Path, Path], **sections: Any) -> Path:
    """A small recipe: twelve steps at a high rate on a tiny model; ``sections`` replace whole keys."""
    recipe: dict[str, Any] = {
        "model": str(model),
        "data": {"train": str(data[0]), "test": str(data[1])},
        "method": {"name": "qlora", "rank": 8, "alpha": 16},
        "training": {"max_steps": 12, "batch_size": 4, "learning_rate": 0.01, "save_steps": 2},
        "targets": ["cpu-int8"],
        # A tiny random model is no judge of rounding; gates have tests of their own.
        "gates": {"max_exact_match_drop": None, "max_task_kl": None},
        **sections,
    }
    recipe = {key: value for key, value in recipe.items() if value is not None}
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path
