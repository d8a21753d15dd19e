"""A bundle with a schema of its answers: the default there, switched off, overridden, damaged and measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edgepeft.cli import run
from edgepeft.errors import InputError, MissingError
from edgepeft.evaluation.answer_form import answer_form
from edgepeft.evaluation.probes import Question
from edgepeft.guidance import FREE, Grammar
from edgepeft.runtime import BatchRuntime, Bundle, Runtime
from tests.runtime.fabricate import edit_json, write_manifest

pytest.importorskip("llguidance")

SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["g", "b"]}, "sure": {"type": "boolean"}},
    "required": ["colour", "sure"],
    "additionalProperties": False,
}
PROMPT = "What is the colour of grass?"


def write_bundle(folder: Path, tiny_bundle: Path, schema: str, name: Any = None) -> Path:
    shutil.copytree(tiny_bundle, folder)
    (folder / "answer_schema.json").write_text(schema)
    (folder / "edgepeft.json").unlink()
    write_manifest(folder, context_length=512)
    edit_json(folder / "edgepeft.json", "result.answer_schema", name or "answer_schema.json")
    return folder


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schema") / "bundle"
    return write_bundle(folder, tiny_bundle, json.dumps(SCHEMA))


@pytest.fixture(scope="module")
def runtime(bundle: Path) -> Runtime:
    return Runtime(bundle, threads=1)


def test_answers_are_bounded_unless_asked_otherwise(
    bundle: Path, tiny_bundle: Path, runtime: Runtime
) -> None:
    free = Runtime(tiny_bundle, threads=1)
    batch = BatchRuntime(bundle, rows=2, threads=1)
    wanted = free.complete(PROMPT, max_new_tokens=100, grammar=Grammar.json_schema(SCHEMA))
    jsonschema.validate(json.loads(wanted.text), SCHEMA)
    for bounded in (runtime, batch):
        assert bounded.complete(PROMPT, max_new_tokens=100).ids == wanted.ids
        unbounded = bounded.complete(PROMPT, max_new_tokens=20, grammar=FREE)
        assert unbounded.ids == free.complete(PROMPT, max_new_tokens=20).ids
        assert bounded.complete(PROMPT, grammar=Grammar.choices(["hm"])).text == "hm"
    batch.close()
    # What is measured and evaluated is what was asked for, token by token.
    assert runtime.generate_ids(wanted.prompt_ids, max_new_tokens=20) == unbounded.ids


def test_run_takes_it_and_can_do_without(
    bundle: Path, runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(**options: Any) -> str:
        run.command(bundle, PROMPT, max_new_tokens=100, **options)
        return capsys.readouterr().out.rstrip("\n")

    jsonschema.validate(json.loads(printed()), SCHEMA)
    assert printed(free=True) == runtime.complete(PROMPT, max_new_tokens=100, grammar=FREE).text
    assert printed(choices="left, right") in ("left", "right")
    assert printed(regex="x{3}") == "xxx"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"regex": "a", "choices": "b"},
            "--regex: one of them bounds an answer; leave --choices out",
        ),
        ({"free": True, "json_schema": Path("s.json")}, "--json-schema: one of them"),
        ({"json_schema": Path("/nowhere/s.json")}, "--json-schema /nowhere/s.json: not found"),
        ({"grammar": Path("/nowhere/g.lark")}, "--grammar /nowhere/g.lark: not found"),
        ({"choices": "a,,b"}, "--choices: give one or more texts, none of them empty"),
        ({"regex": "("}, "--regex: not a regular expression: unclosed group"),
    ],
)
def test_what_bounds_no_answer_is_refused_before_the_model_is_loaded(
    bundle: Path, options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgepeft.cli.run.open_bundle", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        run.command(bundle, PROMPT, **options)


def test_a_schema_that_was_damaged(tiny_bundle: Path, tmp_path: Path, bundle: Path) -> None:
    for at, (text, name, said) in enumerate(
        (
            ("{", None, "answer_schema.json"),
            ("{}", "../answer_schema.json", "result.answer_schema"),
            ("{}", "config.json", "result.answer_schema"),
        )
    ):
        folder = write_bundle(tmp_path / str(at), tiny_bundle, text, name)
        with pytest.raises(InputError, match=said):
            Bundle.open(folder)
    changed = shutil.copytree(bundle, tmp_path / "changed")
    (changed / "answer_schema.json").write_text("{}")
    with pytest.raises(InputError, match="answer_schema"):
        Bundle.open(changed)


def test_a_bundle_with_a_schema_on_a_device_without_the_library(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(bundle, threads=1)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match="llguidance is not installed"):
        runtime.stream(PROMPT)
    assert runtime.complete(PROMPT, max_new_tokens=2, grammar=FREE).ids


def question(runtime: Runtime, text: str, where: str) -> Question:
    prompt = runtime.prompter.prompt([{"role": "user", "content": PROMPT}])
    completion = runtime.prompter.text(text)
    return Question(prompt, completion, text, where)


def test_what_a_schema_makes_of_answers_is_measured(runtime: Runtime) -> None:
    """Rows that were answered rightly without it, wrongly, and in a form of their own."""
    grammar = Grammar.json_schema(SCHEMA)
    bounded = runtime.complete(PROMPT, max_new_tokens=100).text.strip()
    questions = [
        question(runtime, bounded, "1"),
        question(runtime, "[1]", "2"),
        question(runtime, '{"colour": "g", "sure": true}', "3"),
    ]
    steps: list[int] = []
    measure: Callable[[set[str]], Any] = lambda missed: answer_form(  # noqa: E731
        runtime, questions, grammar, missed, (), lambda: steps.append(1)
    )
    found = measure({"3"})
    assert found.rows == len(steps) == 3
    assert found.bounded.parse == found.bounded.fit == 1.0
    assert found.bounded.exact_match == 1 / 3
    # The first two were answered with their own texts, the third as this model does.
    assert found.free.parse == found.free.exact_match == 2 / 3
    assert found.free.fit == 1 / 3
    assert answer_form(runtime, [], grammar, (), (), lambda: None) is None
