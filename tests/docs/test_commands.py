"""Every command that README and docs show is run as it is written, on tiny models under the same names."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.docs.console import ROOT, Block, shown_blocks
from tests.docs.desk import lay_desk

LEFT_TO_OTHERS = {
    "make demo": "is what .ci/run and tests/real build",
    "make test": "is what runs this test",
    "make fast": "is what runs this test",
    "make coverage": "is what runs this test",
    "make latest": "is what runs this test, on other releases",
    "make architectures": "is a part of what runs this test",
    "make check": "is run by .ci/run",
    "make devices": "is run by .ci/run",
    "cd samples && npm install --ignore-scripts": "is done by make devices",
    "make install": "is a part of make demo",
    "make docs": "is run by .ci/run",
    "edgepeft tui": "is started in a terminal by tests/tui/test_terminal.py",
}
"""Commands that this test leaves to another, and to which."""

LIBRARIES = ROOT / "samples" / "node_modules"
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


@pytest.mark.parametrize("block", shown_blocks(), ids=lambda block: block.id)
def test_shown_commands_do_what_is_shown(
    block: Block, desk: Path, programs: Path, tmp_path: Path
) -> None:
    if block.parsed_only is not None:
        pytest.skip(block.parsed_only)
    left = [reason for line in block.lines if (reason := left_to(line)) is not None]
    if len(left) == len(block.lines):
        pytest.skip("; ".join(left))
    here = shutil.copytree(desk, tmp_path / "desk", symlinks=True)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    for line in block.run_as:
        if line.startswith("cd "):
            here = here / line.split()[1]
        if left_to(line) is not None:
            continue
        if line.startswith(SERVES):
            assert serves(line, here, environment), line
            continue
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=here,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        wanted = 3 if lacks_a_package(line) else 0
        assert (done.returncode, "Traceback" in done.stderr) == (wanted, False), (line, done.stderr)
        assert done.stdout.strip() or done.stderr.strip(), line


def left_to(line: str) -> str | None:
    """Why this test does not run a command; None where it does."""
    if line.startswith("node "):
        return "is run by tests/exporters/test_runtimes.py"
    if line.startswith(("pip install", "pipx install", "uv tool install")):
        return "is done from a wheel by tests/real/test_wheel.py"
    if line.startswith("python web/") and not LIBRARIES.is_dir():
        return "needs what make devices installs"
    return LEFT_TO_OTHERS.get(line)


def lacks_a_package(line: str) -> bool:
    """Whether a command asks for an optional package that is not here."""
    return any(
        option in line and importlib.util.find_spec(package) is None
        for option, package in OPTIONAL.items()
    )


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
        # Not SIGINT: what runs the tests in the background may have made their processes deaf to it.
        process.terminate()
        process.wait(timeout=30)


def test_no_command_is_left_to_others_that_nothing_shows() -> None:
    assert set(LEFT_TO_OTHERS) <= {line for block in shown_blocks() for line in block.lines}
