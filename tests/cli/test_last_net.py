"""Whatever goes wrong ends the command with its status and one line; a traceback is in a file that it names."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgepeft.errors import outcome_of
from tests.cli.conftest import Built
from tests.command import COMMAND, edgepeft, on_terminal, start

RAISE = """
import sys
import edgepeft.runs.index
from edgepeft.cli.app import main

def fail(*args, **kwargs):
    {code}

edgepeft.runs.index.all_runs = fail
sys.argv = ["edgepeft", "runs", "--json"]
main()
"""

UNEXPECTED = {
    "raise ZeroDivisionError('one\\ntwo')": "ZeroDivisionError: one two",
    "raise MemoryError": "out of memory",
    "fail()": "something is nested too deeply",
    "raise OSError(28, 'No space left', 'a/file')": "a/file: the disk is full",
    "raise PermissionError(13, 'Permission denied', b'a/file')": "a/file: permission denied",
    "open('n' * 300)": "the name is too long",
    "raise OSError(30, 'Read-only')": "the file system is read-only",
    "raise OSError(31, 'Too many links', 'x')": "x: too many links",
    "b'\\xff'.decode()": "text that is not valid",
    "'\\ud800'.encode()": "text that is not valid",
    "raise RuntimeError('I/O error: No space left on device (os error 28)')": "the disk is full",
    "raise RuntimeError('DefaultCPUAllocator: can\\'t allocate memory')": "out of memory",
    "raise BrokenPipeError(32, 'Broken pipe')": "Broken pipe",
    "raise EOFError": "EOFError",
    "raise ValueError('\\x1b[2J\\u202e')": r"\u001b[2J\u202e",
    "raise ExceptionGroup('several', [ValueError()])": "several",
    "raise type('Own', (BaseException,), {})('text')": "Own: text",
    "raise type('Mute', (Exception,), {'__str__': None})()": "Mute",
}


@pytest.mark.parametrize("code", UNEXPECTED)
def test_what_nobody_expected_is_one_line_and_a_file(tmp_path: Path, code: str) -> None:
    state = tmp_path / "state"
    done = run(RAISE.format(code=code), EDGEPEFT_STATE=str(state))
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("edgepeft: ")
    assert UNEXPECTED[code] in line
    found = re.search(r"traceback: (.*)$", line)
    assert found is not None
    assert Path(found[1]).parent == state / "logs"
    assert "Traceback (most recent call last)" in Path(found[1]).read_text()


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )


def test_a_thread_that_fails_says_so_in_one_line(tmp_path: Path) -> None:
    code = (
        "import threading\n    thread = threading.Thread(target=lambda: 1 // 0)\n"
        "    thread.start()\n    thread.join()\n    return []"
    )
    done = run(RAISE.format(code=code), EDGEPEFT_STATE=str(tmp_path))
    assert done.returncode == 0
    assert json.loads(done.stdout) == []
    assert "ZeroDivisionError" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_interruption_is_told_and_leaves_no_file(tmp_path: Path) -> None:
    done = run(RAISE.format(code="raise KeyboardInterrupt"), EDGEPEFT_STATE=str(tmp_path))
    assert (done.returncode, done.stderr) == (130, "edgepeft: interrupted\n")
    assert list(tmp_path.iterdir()) == []
    process = start("schema")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    # It may have come to its end, or not to our handler; no traceback in any case.
    assert process.returncode in (0, 130, -signal.SIGINT) or "Traceback" not in stderr


@pytest.mark.parametrize("environment", [{"HOME": "/proc/nowhere"}, {"HOME": ""}, {}])
def test_a_home_that_can_not_be_written_is_no_hindrance(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Commands work; a traceback goes where it can be written."""
    given = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), **environment}
    for arguments in (["runs", "--json"], ["models", "--json"], ["schema"]):
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, env=given)
        assert (done.returncode, done.stderr) == (0, "")
    code = RAISE.format(code="1 // 0")
    if environment:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=given
        )
        assert "ZeroDivisionError" in done.stderr
        assert list(tmp_path.rglob("edgepeft-crash-*.log")) or environment["HOME"] == ""
        assert len(done.stderr.splitlines()) == 1


def test_where_no_file_can_be_written_the_line_says_so() -> None:
    code = "import tempfile\ntempfile.tempdir = '/proc/nowhere'\n" + RAISE.format(code="1 // 0")
    done = run(code, EDGEPEFT_STATE="/proc/nowhere", EDGEPEFT_CACHE="/proc/nowhere")
    assert done.returncode == 1
    assert done.stderr.endswith("its traceback could be written nowhere\n")


def test_only_the_latest_tracebacks_are_kept(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for number in range(30):
        (tmp_path / "logs" / f"edgepeft-crash-2020{number:04}.log").write_text("")
    (tmp_path / "logs" / "other.log").write_text("")
    run(RAISE.format(code="1 // 0"), EDGEPEFT_STATE=str(tmp_path))
    assert len(list((tmp_path / "logs").glob("edgepeft-crash-*"))) == 20
    assert (tmp_path / "logs" / "other.log").exists()


def test_a_working_folder_that_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    for command in ("models", "inspect x", "plan --model x", "compress a --rank 2 --out b"):
        done = subprocess.run(
            ["sh", "-c", f'rmdir "$0"; exec "$@" {command}', str(gone), *COMMAND],
            capture_output=True,
            text=True,
            cwd=gone,
        )
        gone.mkdir()
        if command != "models":
            assert done.returncode == 2
            assert done.stderr == "edgepeft: the working folder is gone; change to another one\n"
        else:
            assert done.returncode == 0


SHELL: dict[str, tuple[str, int, str]] = {
    "a reader that leaves": ("{0} schema | head -n 1 >/dev/null; exit ${{PIPESTATUS[0]}}", 0, ""),
    "a table's reader that leaves": ("{0} models | true; exit ${{PIPESTATUS[0]}}", 0, ""),
    "a full disk": ("{0} schema >/dev/full", 1, "standard output: the disk is full"),
    "a table on a full disk": ("{0} models >/dev/full", 1, "standard output: the disk is full"),
    "closed output": ("{0} schema >&-", 0, ""),
    "closed streams": ("{0} models >&- <&- 2>&-", 0, ""),
    "nobody to tell": ("{0} inspect nothing 2>/dev/full", 2, ""),
    "nobody listens": ("{0} inspect nothing 2>&-", 2, ""),
    "a usage error": ("{0} inspect --nonsense", 2, "No such option"),
    "a usage error in colour": ("{0} $'no\\x1b[2J'", 2, r"no\x1b[2J"),
}


@pytest.mark.parametrize("name", SHELL)
def test_streams_of_every_kind(tmp_path: Path, name: str) -> None:
    script, status, said = SHELL[name]
    done = subprocess.run(
        ["bash", "-c", script.format(" ".join(COMMAND))],
        capture_output=True,
        text=True,
        env={**os.environ, "EDGEPEFT_STATE": str(tmp_path)},
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert bool(said) == bool(done.stderr)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8", "latin-1"])
def test_no_encoding_of_the_output_is_too_small(built: Built, encoding: str) -> None:
    bundle = built.result["bundles"][0]["path"]
    for arguments in (["models"], ["inspect", bundle, "--json"], ["plan", built.recipe], ["runs"]):
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": encoding},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode(encoding)
        if "--json" in arguments:
            json.loads(done.stdout.decode(encoding))


@pytest.fixture
def hostile(built: Built, tmp_path: Path) -> Path:
    """A bundle whose manifest would clear the screen, set a title, turn the writing and link elsewhere."""
    bundle = tmp_path / "bundle"
    subprocess.run(["cp", "-r", built.result["bundles"][0]["path"], bundle], check=True)
    manifest = json.loads((bundle / "edgepeft.json").read_text())
    manifest["fidelity"]["gates"] = [f"{EVIL}\nall is well"]
    manifest["result"]["target"] = f"cpu{EVIL}"
    (bundle / "edgepeft.json").write_text(json.dumps(manifest))
    return bundle


EVIL = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e\u200b\r[red]x[/red]"


@pytest.mark.parametrize("arguments", [["inspect"], ["run", "hi", "--max-new-tokens", "1"]])
def test_what_a_manifest_says_does_not_reach_the_terminal(
    hostile: Path, arguments: list[str]
) -> None:
    command, *rest = arguments
    _, shown = on_terminal(command, hostile, *rest)
    for raw in ("\x1b]0;", "\x1b[2J", "\x9b", "\u202e", "\u200b", "\r["):
        assert raw.encode() not in shown
    assert rb"\u001b]0;title" in shown
    assert b"[red]x[/red]" in shown
    assert b"\nall is well" not in shown
    done = edgepeft(command, hostile, *rest)
    assert "\x1b" not in done.stdout + done.stderr


def test_what_a_recipe_says_does_not_reach_the_terminal(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {json.dumps(EVIL)}\n{json.dumps(EVIL + 'key')}: 1\n")
    for arguments in (["plan", recipe], ["build", recipe, "--out", tmp_path / "run"]):
        status, shown = on_terminal(*arguments)
        assert status == 2
        assert b"\x1b" not in shown
        assert shown.count(b"\n") == 1


EVENTS = """
import sys, time
from edgepeft.cli.options import ProgressMode
from edgepeft.cli.progress import show_events
from edgepeft.cli.streams import open_streams
open_streams()
evil = sys.argv[1]
with show_events(ProgressMode.auto) as sink:
    sink({"event": "started", "stage": evil})
    sink({"event": "progress", "stage": evil, "step": 1, "total": 2, "seconds": 1.0, "metrics": {}})
    sink({"event": "warning", "stage": "data", "text": evil})
    print(evil)
    print(evil, file=sys.stderr)
    time.sleep(0.3)
    sink({"event": "failed", "stage": evil})
"""


def test_what_events_say_does_not_reach_the_terminal() -> None:
    """Beside the bars' own escape sequences, and whatever prints while they are shown."""
    _, shown = on_terminal(EVIL, program=[sys.executable, "-c", EVENTS])
    assert b"\x1b[" in shown
    for raw in ("\x1b]0;", "\x1b[2J", "\x9b", "\u202e", "\u200b"):
        assert raw.encode() not in shown
    assert shown.count(b"[red]x[/red]") >= 4
    plain = subprocess.run(
        [sys.executable, "-c", EVENTS, EVIL], capture_output=True, text=True, check=True
    )
    assert "\x1b" not in plain.stdout + plain.stderr


def test_records_of_runs_are_shown_and_damaged_ones_named(tmp_path: Path) -> None:
    for name, record in {
        "evil": {"name": EVIL, "model": EVIL, "targets": [EVIL], "started": EVIL, "state": "done"},
        "types": {"name": "x", "targets": [1]},
        "bundle": {"result": {"bundles": [{"fidelity": {"exact_match": "high"}}]}},
        "pid": {"state": "running", "pid": 10**30, "name": "pid"},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps(record))
    for name, content in {
        "deep": b"[" * 100_000,
        "binary": b"\xff\xfe",
        "digits": b"9" * 9999,
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_bytes(content)
    for name in ("pipe", "device"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe" / "run.json")
    (tmp_path / "device" / "run.json").symlink_to("/dev/zero")
    own = {"EDGEPEFT_STATE": str(tmp_path / "state"), "COLUMNS": "400"}
    status, shown = on_terminal("runs", tmp_path, env=own)
    assert status == 0
    assert b"\x1b]0;" not in shown
    assert "\u202e".encode() not in shown
    done = edgepeft("runs", tmp_path, "--json", env=own)
    assert {run.get("name") for run in json.loads(done.stdout)} == {EVIL, "pid"}
    for name in ("types", "bundle", "deep", "binary", "digits", "pipe", "device"):
        assert f"left out {tmp_path / name / 'run.json'}" in done.stderr
        looked = edgepeft("inspect", tmp_path / name)
        assert looked.returncode == 2, (name, looked.stderr)
        assert len(looked.stderr.splitlines()) == 1
    assert len(done.stderr.splitlines()) == 7


def test_a_stage_that_fails_unexpectedly_is_one_line_with_its_log(
    built: Built, tmp_path: Path
) -> None:
    """In a process of its own, too; the log that the line names has the traceback."""
    faulty = tmp_path / "sitecustomize.py"
    faulty.write_text(
        "import sys\n"
        "if 'edgepeft.stages.worker' in sys.orig_argv:\n"
        "    import functools\n"
        "    import edgepeft.checkpoints.base as base\n"
        "    base.run = functools.wraps(base.run)(lambda job: {}['no such key\\x1b[2J'])\n"
    )
    done = edgepeft(
        "train",
        built.recipe,
        "--out",
        tmp_path / "run",
        "--progress",
        "none",
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert r"base: KeyError: 'no such key\x1b[2J'; see " in line
    log = Path(line.rpartition("see ")[2])
    assert "Traceback" in log.read_text()
    assert log.is_relative_to(tmp_path / "run" / "logs")


def test_an_error_in_a_run_leaves_its_traceback_with_the_run(built: Built, tmp_path: Path) -> None:
    code = (
        "import sys, edgepeft.pipeline.build\n"
        "from edgepeft.cli.app import main\n"
        "def fail(*args): raise ZeroDivisionError('here')\n"
        "edgepeft.pipeline.build._run_stages = fail\n"
        f"sys.argv = ['edgepeft', 'build', {str(built.recipe)!r}, '--out', {str(tmp_path / 'run')!r}]\n"
        "main()"
    )
    done = run(code)
    assert done.returncode == 1
    assert f"ZeroDivisionError: here; traceback: {tmp_path / 'run' / 'logs'}" in done.stderr


def test_every_exception_has_a_status_and_a_line() -> None:
    """Nothing about an exception is taken for granted, its text least of all."""

    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    outcome = outcome_of(Unspeakable())
    assert (outcome.status, outcome.line) == (1, "Unspeakable")
