"""The committed home-tools data is what its script writes, and is sound to train and score on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edgepeft.config.loader import load_recipe
from edgepeft.data.formats import read_file
from edgepeft.data.prompt import Prompter
from edgepeft.data.tool_checks import call_warnings, refuse_unwritten
from edgepeft.data.tools import name_of, parameters_of, read_tools_file
from edgepeft.tool_calling import parse, syntax_of
from tests.tiny import write_tiny_tokenizer

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
NAMES = ("home-tools.train.jsonl", "home-tools.test.jsonl", "home-tools.json")


def rows(name: str) -> list[Any]:
    return list(read_file(SAMPLES / "data" / name).rows)


def test_the_committed_files_are_what_the_script_writes(tmp_path: Path) -> None:
    command = [sys.executable, str(SAMPLES / "make_home_tools.py"), "--out-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (SAMPLES / "data" / name).read_bytes(), name


@pytest.mark.parametrize("name", NAMES[:2])
def test_every_call_fits_its_tool_and_there_is_every_kind(name: str) -> None:
    schemas = {
        name_of(tool): parameters_of(tool)
        for tool in read_tools_file(SAMPLES / "data" / NAMES[2], "tools")
    }
    found = rows(name)
    called: dict[str, int] = dict.fromkeys(schemas, 0)
    kinds = {"one": 0, "two": 0, "none": 0, "results": 0}
    for row in found:
        assert {name_of(tool): parameters_of(tool) for tool in row.tools} == schemas
        calls = [call for turn in row.messages for call in turn.get("tool_calls", ())]
        for call in calls:
            called[call["function"]["name"]] += 1
            jsonschema.validate(call["function"]["arguments"], schemas[call["function"]["name"]])
            # What is called is what was said.
            assert call["function"]["arguments"]["room"] in row.messages[0]["content"].lower()
        kinds[("none", "one", "two")[len(calls)]] += 1
        kinds["results"] += any(turn["role"] == "tool" for turn in row.messages)
    assert all(count >= len(found) / 25 for count in called.values())
    assert all(count >= len(found) / 25 for count in kinds.values())
    assert call_warnings(found) == []


def test_no_question_stands_on_both_sides() -> None:
    asked = [{row.messages[0]["content"].lower() for row in rows(name)} for name in NAMES[:2]]
    assert not asked[0] & asked[1]
    assert len(asked[0]) == len(rows(NAMES[0]))


def test_the_samples_template_writes_all_of_it(tmp_path: Path) -> None:
    recipe = load_recipe(SAMPLES / "recipes/home-tools.yaml").recipe
    template = (SAMPLES / "recipes" / recipe.data.template).resolve()
    writer = Prompter.from_folder(write_tiny_tokenizer(tmp_path, template=template.read_text()))
    syntax = syntax_of(writer)
    assert syntax is not None
    for row in rows(NAMES[1])[:40]:
        refuse_unwritten(writer, row)
        wanted = [call["function"] for call in row.answer.get("tool_calls", ())]
        parsed = parse(writer.decode(writer.split(row)[1]), syntax, row.tools)
        assert [call["function"] for call in parsed.calls] == wanted
        assert json.dumps(wanted) == json.dumps([call["function"] for call in parsed.calls])
