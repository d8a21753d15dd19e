"""Every command that README and docs show is run as it is written, on tiny models under the same names."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.docs.console import Shown, shown_commands
from tests.docs.desk import lay_desk

LEFT_TO_OTHERS = {
    "make demo": "is what .ci/run and tests/real build",
    "make test": "is what runs this test",
    "make fast": "is what runs this test",
    "make architectures": "is a part of what runs this test",
    "make check": "is run by .ci/run",
    "make devices": "is run by .ci/run",
    "pip install 'edgepeft[cpu]'": "is done from a wheel by tests/real/test_wheel.py",
    "cd samples && npm install --ignore-scripts": "is done by make devices",
    "edgepeft tui": "is started in a terminal by tests/tui/test_terminal.py",
}
"""Commands that this test leaves to another, and to which."""

SERVES = ("edgepeft serve", "python web/serve.py")
"""Beginnings of commands that run until they are stopped."""

OPTIONAL = {"--llama-cpp": "llama_cpp"}
"""Options that need a package beyond the project's own; without it the command says so and exits 3."""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_desk(tmp_path_factory.mktemp("desk") / "desk")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``edgepeft`` and ``python`` as the shell finds them."""
    folder = tmp_path_factory.mktemp("programs")
    for name, what in (("edgepeft", "-m edgepeft.cli.app"), ("python", "")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {what} "$@"\n')
        script.chmod(0o755)
    return folder


@pytest.mark.parametrize("shown", shown_commands(), ids=lambda shown: shown.id)
def test_a_shown_command_does_what_is_shown(
    shown: Shown, desk: Path, programs: Path, tmp_path: Path
) -> None:
    if shown.line in LEFT_TO_OTHERS:
        pytest.skip(LEFT_TO_OTHERS[shown.line])
    if shown.line.startswith("node") or ("samples" in shown.line and "web" in shown.line):
        pytest.skip("is run by tests/exporters/test_runtimes.py")
    here = shutil.copytree(desk, tmp_path / "desk", symlinks=True)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    if shown.line.startswith(SERVES):
        assert serves(shown.line, here, environment)
        return
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shown.line],
        cwd=here,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    for option, package in OPTIONAL.items():
        if option in shown.line and importlib.util.find_spec(package) is None:
            assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr
            return
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() or done.stderr.strip()


def serves(line: str, here: Path, environment: dict[str, str]) -> bool:
    """Whether a server says where it listens; it is stopped then."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {line} --port 0"],
        cwd=here,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            said = process.stdout.readline() if process.stdout else ""
            if said.startswith("http://127.0.0.1:"):
                return True
            if not said and process.poll() is not None:
                return False
        return False
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def test_no_command_is_left_to_others_that_nothing_shows() -> None:
    assert set(LEFT_TO_OTHERS) <= {shown.line for shown in shown_commands()}
