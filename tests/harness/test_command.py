"""``edgepeft eval`` as users start it: one JSON object or a table on stdout, one line for what is wrong."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import edgepeft, start
from tests.conftest import SAMPLES
from tests.harness.conftest import Twins
from tests.hub.served import served

OWN = ("--task-folder", SAMPLES / "lm_eval")


HIDING = """
import sys

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *further):
        hidden = name.partition(".")[0] in HIDDEN
        return None if hidden else self.finder.find_spec(name, *further)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path = [Hiding(finder) for finder in sys.meta_path]
"""
"""Python that has some modules not installed: what looks for them finds nothing."""


def without(*modules: str, arguments: tuple[object, ...]) -> subprocess.CompletedProcess[str]:
    """The command where some modules are not installed."""
    argv = ["edgepeft", *map(str, arguments)]
    code = f"HIDDEN = {modules!r}\n{HIDING}\nsys.argv = {argv!r}\n"
    code += "from edgepeft.cli.app import main; main()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_device_evaluates_and_prints_one_object(twins: Twins, tmp_path: Path) -> None:
    """With neither torch nor transformers; the bundle is a run's only one, and a task prints what it likes."""
    run = tmp_path / "run"
    shutil.copytree(twins.bundle, run / "bundles" / "cpu-fp32")
    (run / "run.json").write_text("{}")
    tasks = shutil.copytree(SAMPLES / "lm_eval", tmp_path / "own" / "lm_eval")
    (tmp_path / "own" / "data").symlink_to(SAMPLES / "data")
    device = tasks / "home-control-device.yaml"
    device.write_text(
        device.read_text().replace("doc_to_text: prompt", "doc_to_text: !function loud.ask")
    )
    (tasks / "loud.py").write_text("def ask(row):\n    print('asked')\n    return row['prompt']\n")
    out = tmp_path / "found.json"
    options = ("--tasks", "home_control,home_control_device", "--limit", 4, "--json", "--out", out)
    arguments = ("eval", run, "--task-folder", tasks, *options)
    done = without("torch", "transformers", arguments=arguments)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert json.loads(out.read_text()) == found
    assert found["bundle"] == str(run / "bundles" / "cpu-fp32")
    assert set(found["tasks"]) == {"home_control", "home_control_device"}
    metric = found["tasks"]["home_control"]["metrics"]["exact_match"]
    assert (metric["value"], metric["stderr"]) == (0.0, 0.0)
    assert found["tasks"]["home_control"]["samples"] == 4
    assert {"edgepeft", "lm_eval"} <= set(found["versions"])
    assert "asked" in done.stderr
    assert "it/s" not in done.stderr


def test_people_see_a_table(twins: Twins) -> None:
    done = edgepeft(
        "eval", twins.bundle, *OWN, "--tasks", "home_control", "--limit", 2, "--no-chat"
    )
    assert done.returncode == 0, done.stderr
    assert "exact_match ↑" in done.stdout
    assert "asked without a template" in done.stdout


def test_what_is_wrong_is_one_line(twins: Twins, tmp_path: Path) -> None:
    done = without("lm_eval", arguments=("eval", tmp_path / "nowhere", "--tasks", "mine"))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "edgepeft: lm_eval is not installed: pip install 'edgepeft[eval]'\n"
    for arguments, status, said in (
        ((tmp_path, "--tasks", "mine"), 2, "edgepeft.json"),
        ((twins.bundle, "--tasks", " , "), 2, "--tasks: names no task"),
        ((twins.bundle, "--tasks", "mine", "--out", tmp_path), 2, "cannot be written"),
    ):
        done = edgepeft("eval", *arguments)
        assert (done.returncode, done.stdout) == (status, ""), done.stderr
        (line,) = done.stderr.splitlines()
        assert said in line


def test_offline_nobody_is_asked_for_rows(twins: Twins, tmp_path: Path) -> None:
    task = {"task": "far", "dataset_path": "org/rows", "test_split": "test"}
    task |= {"doc_to_text": "q", "doc_to_target": "a", "output_type": "loglikelihood"}
    (tmp_path / "far.yaml").write_text(json.dumps(task))
    with served() as hub:
        environment = {
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "1",
        }
        options = ("--task-folder", tmp_path, "--tasks", "far")
        done = edgepeft("eval", twins.bundle, *options, env=environment)
        assert hub.asked == []
    assert (done.returncode, done.stdout) == (3, "")
    line = done.stderr.splitlines()[-1]
    assert line.startswith(
        "edgepeft: --tasks far: its data set org/rows is not on this machine, and "
    )
    assert "HF_HUB_OFFLINE is set; unset it" in line


def test_ctrl_c_ends_with_130_and_a_line(twins: Twins) -> None:
    options = ("--tasks", "home_control", "--progress", "jsonl")
    process = start("eval", twins.bundle, *OWN, *options)
    assert process.stderr is not None
    for line in process.stderr:
        if '"step": 0' in line:
            break
    else:
        pytest.fail("no progress")
    process.send_signal(signal.SIGINT)
    said, talk = process.communicate(timeout=60)
    assert process.returncode == 130, talk
    assert said == ""
    assert talk.splitlines()[-1] == "edgepeft: eval: interrupted"
    assert "Traceback" not in talk
