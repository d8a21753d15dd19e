"""The pages that are made of declarations are today's."""

from __future__ import annotations

import pytest

from edgepeft.config.schema import json_schema
from tests.docs.console import ROOT
from tools.reference_pages import pages


@pytest.mark.parametrize("name", pages())
def test_a_page_is_what_the_tool_writes(name: str) -> None:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert text == pages()[name], "run python tools/reference_pages.py"


def test_every_key_of_a_recipe_is_told() -> None:
    page = pages()["recipe-reference.md"]
    schema = json_schema()
    for section in (schema, *schema["$defs"].values()):
        for key, value in section["properties"].items():
            assert f"| `{key}` |" in page
            assert value.get("description", "").split("|")[0].split("<")[0] in page
