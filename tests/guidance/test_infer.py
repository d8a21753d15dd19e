"""Schemas proposed from answers: what they bound, and that the answers fit them."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from edgepeft.errors import InputError
from edgepeft.guidance import Grammar
from edgepeft.guidance.infer import infer_schema
from edgepeft.guidance.judge import Judge

pytest.importorskip("llguidance")


def inferred(*values: Any, **style: Any) -> tuple[dict[str, Any], list[str]]:
    texts = [(f"rows:{at}", json.dumps(value, **style)) for at, value in enumerate(values, 1)]
    schema, notes = infer_schema(texts)
    judge = Judge(Grammar.json_schema(schema).text)
    for (_, text), value in zip(texts, values, strict=True):
        jsonschema.validate(value, schema)
        assert judge.objection(text) is None
    return schema, notes


def test_keys_types_and_closed_sets() -> None:
    rows = [
        {"action": ("on", "off")[at % 2], "name": f"name {at}", "value": (at, None)[at % 3 == 0]}
        for at in range(16)
    ]
    rows[3]["note"] = True
    schema, notes = inferred(*rows)
    assert schema == {
        "type": "object",
        "properties": {
            "action": {"enum": ["off", "on"]},
            "name": {"type": "string", "maxLength": 28},
            "value": {
                "anyOf": [{"type": "integer", "minimum": 0, "maximum": 999}, {"type": "null"}]
            },
            "note": {"type": "boolean"},
        },
        "required": ["action", "name", "value"],
        "additionalProperties": False,
        "x-guidance": {
            "whitespace_flexible": False,
            "item_separator": ", ",
            "key_separator": ": ",
        },
    }
    assert notes == []


def test_lists_nesting_and_numbers() -> None:
    schema, _ = inferred({"a": [{"x": 1}, {"x": -2.5}]}, {"a": []}, separators=(",", ":"))
    (items,) = [schema["properties"]["a"]["items"]]
    assert items["properties"]["x"] == {"type": "number", "minimum": -99, "maximum": 99}
    assert schema["properties"]["a"]["maxItems"] == 4
    assert schema["x-guidance"]["item_separator"] == ","
    assert inferred([], [])[0]["maxItems"] == 0
    assert "x-guidance" not in inferred({"a": 1}, indent=1)[0]
    assert inferred(3, 4)[0] == {"type": "integer", "minimum": 0, "maximum": 99}


def test_keys_in_another_order_are_told() -> None:
    schema, notes = inferred({"a": 1, "c": 2}, {"a": 1, "b": 1, "c": 2}, {"c": 1, "a": 2})
    assert list(schema["properties"]) == ["a", "b", "c"]
    assert notes == [
        "the answer: the keys of 1 of 3 objects come in another order than the schema's, which answers within it "
        "will have"
    ]


def test_what_is_no_json_has_no_schema() -> None:
    with pytest.raises(InputError, match="rows:2: the answer is not JSON"):
        infer_schema([("rows:1", "{}"), ("rows:2", "{")])
    with pytest.raises(InputError, match="there are no answers"):
        infer_schema([])


def test_the_judge_names_what_is_wrong() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"a": {"enum": [1]}},
        "required": ["a"],
    }
    judge = Judge(json.dumps(schema))
    assert judge.objection('{"a": 1}') is None
    assert judge.objection('{"a": 2}') == "$.a: 2 is not one of [1]"
    assert judge.objection("{}") == "$: 'a' is a required property"
    assert str(judge.objection('{"a": 1, "a": 1}')).startswith(
        "not JSON: the key 'a' is given twice"
    )
    assert judge.parses("[1]")
    assert not judge.parses("NaN")
