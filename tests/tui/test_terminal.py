"""The wizard in a real terminal: tmux types, tmux reads, and the builds are real ones of a tiny model."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from edgepeft.runs.index import read_run
from tests.command import COMMAND, write_recipe
from tests.conftest import ModelMaker
from tests.tiny import write_tiny_data

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")


class Terminal:
    """A tmux server of its own with one window."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # A socket's path must be short, and a test's folder is not.
        self._name = f"edgepeft-{os.getpid()}-{folder.name[-12:]}"
        self._opened = 0
        self._socket = self._name

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self._socket, "-f", "/dev/null", *arguments],
            capture_output=True,
            text=True,
            check=False,
            # Sizes in the environment would overrule those of the window.
            env={
                key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")
            },
        )
        return done.stdout

    def open(self, *arguments: str, size: tuple[int, int] = (100, 34)) -> None:
        """Start ``edgepeft ARGUMENTS`` in a new window."""
        # A server that was killed may still be leaving, and would take the new window with it.
        self._opened += 1
        self._socket = f"{self._name}-{self._opened}"
        self._tmux(
            *("new-session", "-d", "-s", "t", "-x", str(size[0]), "-y", str(size[1])),
            *("-c", str(self._folder), shlex.join([*COMMAND, *arguments])),
        )

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names."""
        self._tmux("send-keys", "-t", "t", *keys)

    def press_until(self, key: str, text: str) -> None:
        """Press a key until ``text`` is on the screen: a step takes the focus only when it is ready."""
        for _ in range(12):
            self.press(key)
            deadline = time.monotonic() + 2
            while time.monotonic() < deadline:
                if text in self.screen():
                    return
                time.sleep(0.05)
        raise AssertionError(f"{text!r} never came:\n{self.screen()}")

    def write(self, text: str) -> None:
        """Type text."""
        self._tmux("send-keys", "-t", "t", "-l", text)

    def screen(self) -> str:
        """What is on the screen."""
        return self._tmux("capture-pane", "-p", "-t", "t")

    def wait(self, text: str, seconds: float = 60) -> str:
        """The screen once ``text`` is on it; the test fails with the screen if that never comes."""
        deadline = time.monotonic() + seconds
        while text not in (screen := self.screen()):
            assert time.monotonic() < deadline, f"{text!r} never came:\n{screen}"
            time.sleep(0.05)
        return screen

    def kill(self) -> None:
        """Kill the terminal with whatever is in it."""
        self._tmux("kill-server")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A terminal in the test's folder, and no build left behind."""
    made = Terminal(tmp_path)
    yield made
    made.kill()
    for run in tmp_path.glob("runs/*"):
        record = read_run(run)
        if record.get("state") == "running":
            process = psutil.Process(record["pid"])
            process.terminate()
            process.wait(60)


def test_from_the_first_key_to_an_answered_chat(
    terminal: Terminal, tmp_path: Path, tiny_model: ModelMaker
) -> None:
    model = tiny_model("llama")
    write_tiny_data(tmp_path)
    terminal.open("tui")
    terminal.wait("Try the demo")
    terminal.press("n")
    terminal.wait("Known and recent models")
    terminal.press(*["BSpace"] * len("smollm2-135m-instruct"))
    terminal.wait("Choose a model above.")
    terminal.write(str(model))
    terminal.wait("LlamaForCausalLM")
    terminal.press("C-n")
    terminal.wait("What the model will see")
    terminal.write("train.jsonl")
    terminal.press("Tab", "Tab")
    terminal.wait("data.test  Held-out")
    terminal.write("test.jsonl")
    terminal.wait("»k<|im_end|>«")
    terminal.press("C-n")
    terminal.wait("Train an adapter")
    terminal.press("Tab", "Tab", "Tab")
    terminal.wait("Optimizer steps; overrides epochs.")
    terminal.write("3")
    # A tiny random model is no judge of rounding.
    terminal.press("C-n")
    terminal.wait("›  Merge and quantize")
    terminal.press("C-n")
    terminal.wait("›  Targets")
    terminal.press_until("Tab", "gates.max_exact_match_drop")
    terminal.write("1")
    terminal.press("Tab")
    terminal.wait("gates.max_task_kl")
    terminal.write("100")
    terminal.press("C-n")
    terminal.wait("max_task_kl: 100")
    terminal.press("Enter")
    terminal.wait("Stages")
    terminal.wait("done; Enter shows the result", seconds=300)
    terminal.press("Enter")
    terminal.wait("passed its gates")
    terminal.press("t")
    terminal.wait("loaded in", seconds=60)
    terminal.write("What is the colour of snow?")
    terminal.press("Enter")
    screen = terminal.wait("tokens/s", seconds=60)
    assert "you     What is the colour of snow?" in screen
    # The recipe that was written builds to the very bundle, by the command line.
    record = json.loads((tmp_path / "runs/run/run.json").read_text())
    again = subprocess.run(
        [*COMMAND, "build", "run.yaml", "--out", "again", "--json", "--progress", "none"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    [mine], [theirs] = record["result"]["bundles"], json.loads(again.stdout)["bundles"]
    for name in ("model_q4.onnx", "model_q4.onnx_data"):
        files = [Path(entry["model_file"]).with_name(name).read_bytes() for entry in (mine, theirs)]
        assert files[0] == files[1], name


def test_a_killed_terminal_leaves_the_job_which_is_found_stopped_and_resumed(
    terminal: Terminal, tmp_path: Path, tiny_model: ModelMaker
) -> None:
    training = {"max_steps": 4000, "batch_size": 4, "save_steps": 20, "eval_steps": 100}
    write_recipe(
        tmp_path / "long.yaml", tiny_model("llama"), write_tiny_data(tmp_path), training=training
    )
    terminal.open("tui", "long.yaml")
    terminal.wait("LlamaForCausalLM")
    terminal.press("C-r")
    terminal.wait("tok/s", seconds=120)
    pid = read_run(tmp_path / "runs/long")["pid"]
    terminal.kill()
    assert psutil.pid_exists(pid)

    terminal.open("tui")
    terminal.wait("Watch long")
    terminal.press("Enter")
    terminal.wait("tok/s")
    terminal.press("s")
    terminal.wait("stopped, can be resumed: press r", seconds=60)
    assert read_run(tmp_path / "runs/long")["state"] == "interrupted"
    assert list(tmp_path.glob("runs/long/scratch/train-*/checkpoints/checkpoint-*"))

    terminal.press("r")
    deadline = time.monotonic() + 120
    while read_run(tmp_path / "runs/long")["state"] != "running":
        assert time.monotonic() < deadline, terminal.screen()
        time.sleep(0.05)
    terminal.wait("s Stop", seconds=120)
    terminal.press("s")
    terminal.wait("stopped, can be resumed: press r", seconds=60)
