"""What the wizard asks of the command line, and the command that opens it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import yaml

from tests.command import COMMAND, edgepeft, write_recipe
from tests.conftest import ModelMaker
from tests.tiny import write_tiny_data


def test_rows_are_shown_as_the_model_will_read_them(tmp_path: Path, tiny_model: ModelMaker) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", tiny_model("llama"), write_tiny_data(tmp_path))
    done = edgepeft("data", recipe, "--rows", "1", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["files"]["train"]["rows"] == 64
    assert facts["files"]["train"]["shape"] == "prompt"
    [row] = facts["rows"]
    learned = "".join(piece["text"] for piece in row["pieces"] if piece["learned"])
    asked = "".join(piece["text"] for piece in row["pieces"] if not piece["learned"])
    assert learned == "k<|im_end|>"
    assert "What is the colour of coal (number 0)?" in asked
    assert any("fewer than 500" in warning for warning in facts["report"]["warnings"])


def test_a_recipe_on_standard_input_is_planned_relative_to_the_working_folder(
    tmp_path: Path, tiny_model: ModelMaker
) -> None:
    write_tiny_data(tmp_path)
    data = {"train": "train.jsonl", "test": "test.jsonl"}
    raw: dict[str, object] = {"model": str(tiny_model("llama")), "data": data}

    def plan(recipe: dict[str, object]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "plan", "-", "--json"],
            input=yaml.safe_dump(recipe),
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )

    facts = json.loads(plan(raw).stdout)
    assert facts["training_memory"]["weights"] > 0
    choices = {choice["target"]: choice for choice in facts["choices"]}
    assert choices["cpu-int4"]["bytes"] < choices["cpu-int4"]["memory_bytes"]
    refused = plan({**raw, "merge": {"base": "original"}})
    choices = {choice["target"]: choice for choice in json.loads(refused.stdout)["choices"]}
    assert "set it to dequantized" in choices["cpu-nf4"]["refused"]
    wrong = plan({**raw, "method": {"rank": 0}})
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("edgepeft: stdin: method.rank: ")


def test_without_its_extra_the_wizard_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['textual'] = None; sys.argv = ['edgepeft', 'tui']\n"
        "from edgepeft.cli.app import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == ("edgepeft: tui: textual is not installed: pip install 'edgepeft[tui]'\n")
