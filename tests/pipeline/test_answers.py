"""``answer.json_schema``: what is refused when planning, what enters the key, and a schema proposed from rows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgepeft.config.loader import load_recipe
from edgepeft.pipeline.schema_proposal import propose_schema
from tests.command import edgepeft
from tests.project import Project
from tests.tiny import COLOURS

pytest.importorskip("llguidance")

SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": sorted(set(COLOURS.values()))}},
    "required": ["colour"],
    "additionalProperties": False,
}
ASKED = "answer.json_schema=schema.json"


def write_rows(project: Project, key: str = "colour") -> None:
    """Completions that are JSON."""
    for name in ("train", "test"):
        path = project.folder / f"{name}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["completion"] = json.dumps({key: row["completion"]})
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_schema(project: Project, schema: Any = SCHEMA) -> None:
    text = schema if isinstance(schema, str) else json.dumps(schema)
    (project.folder / "schema.json").write_text(text)


def test_only_export_and_verify_hang_on_the_schema(project: Project) -> None:
    write_rows(project)
    write_schema(project)
    plain, bound = project.keys(), project.keys(ASKED)
    differing = {name for name in plain if plain[name] != bound[name]}
    stages = {
        f"{kind}-{target}" for kind in ("export", "verify") for target in ("cpu-int4", "cpu-fp32")
    }
    assert differing == stages
    write_schema(project, {**SCHEMA, "title": "another"})
    assert project.keys(ASKED)["export-cpu-int4"] != bound["export-cpu-int4"]


def test_a_schema_that_is_none_is_refused_before_anything_is_built(project: Project) -> None:
    write_rows(project)
    project.refuses(ASKED, match=r"^answer\.json_schema: .*schema\.json: not found")
    for schema, said in (
        ("{", "schema.json: not JSON"),
        ({"not": {}}, "can't be held while a text is written: not"),
        ({"requierd": []}, "did you mean required"),
        ({"$ref": "#"}, "no finite text fits it"),
    ):
        write_schema(project, schema)
        project.refuses(ASKED, match=said)


def test_rows_that_do_not_fit_are_refused(project: Project) -> None:
    write_schema(project)
    project.refuses(
        ASKED, match=r"64 of 64 rows do not fit it, the first .*train\.jsonl line 1 \(not JSON"
    )
    write_rows(project, "color")
    project.refuses(ASKED, match=r"train\.jsonl line 1 \(\$: .colour. is a required")


def test_a_bundle_of_many_adapters_has_no_schema_of_its_own(project: Project) -> None:
    write_rows(project)
    write_schema(project)
    project.recipe["targets"] = [{"name": "cpu-int4", "adapters": "hot-swap"}]
    project.refuses(ASKED, match="cpu-int4 takes adapters, each with answers of its own")


def test_a_schema_is_proposed_from_the_training_rows(project: Project) -> None:
    write_rows(project)
    project.plan()
    recipe = project.folder / "recipe.yaml"
    schema, notes = propose_schema(load_recipe(recipe))
    assert schema["properties"] == SCHEMA["properties"]
    assert notes == ["of 64 training rows"]
    done = edgepeft("data", recipe, "--infer-schema")
    assert json.loads(done.stdout) == schema
    write_schema(project, done.stdout)
    project.plan(ASKED)
