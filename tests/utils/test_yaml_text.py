"""Recipes as anyone may write them: read as they were meant, or refused within limits of time and memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edgepeft.utils.scalars import DEPTH, TEXT_BYTES, VALUES, TextProblem
from edgepeft.utils.yaml_text import quoted, read_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: no", "no"),
        ("a: on", "on"),
        ("a: true", True),
        ("a: 1:30", "1:30"),
        ("a: 2024-01-01", "2024-01-01"),
        ("a: 007", "007"),
        ("a: 1_000", 1000),
        ("a: 0x1f", 31),
        ("a: 0o17", 15),
        ("a: 1e-3", 0.001),
        ("a: 1.0e-3", 0.001),
        ("a: .5", 0.5),
        ("a: -0", 0),
        ("a: ~", None),
        ("a:", None),
        ("a: '1e3'", "1e3"),
        ("a: =", "="),
        ("a: !!str 12", "12"),
        ("a: !!float 1", 1.0),
        ("a: |\n  two\n  lines\n", "two\nlines\n"),
        ('a: "\\u00e9"', "é"),
        ('{"a": "\\ud83d\\ude42"}', "🙂"),
        ('\n {"a": [1, 2.5, null, "x"]}', [1, 2.5, None, "x"]),
        ("{a: x}", "x"),
        ("\ufeffa: 1", 1),
    ],
)
def test_scalars_are_read_as_they_were_meant(text: str, value: Any) -> None:
    read = read_yaml(text)["a"]
    assert read == value
    assert type(read) is type(value)


def test_anchors_and_merges_are_written_out() -> None:
    read = read_yaml(
        "base: &b {x: 1, y: [2]}\none: {<<: *b, x: 3}\ntwo: {x: 0, <<: [*b, {z: 5}]}\nagain: *b\n"
    )
    assert read["one"] == {"x": 3, "y": [2]}
    assert read["two"] == {"x": 0, "y": [2], "z": 5}
    read["again"]["y"].append("changed later")
    assert read["base"]["y"] == [2]


def test_keys_are_text_whatever_they_look_like() -> None:
    read = read_yaml("1: a\ntrue: b\nnull: c\n1.5: d\n2024-01-01: e\n'<<': f\n")
    assert list(read) == ["1", "true", "null", "1.5", "2024-01-01", "<<"]


BOMB = "a: &a [l,l,l,l,l,l,l,l,l]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)
LADDER = "a0: &a0 [x]\n" + "".join(
    f"a{i}: &a{i} {'[' * 20}*a{i - 1}{']' * 20}\n" for i in range(1, 40)
)
MERGES = "a0: &a0 {x0: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], x{i}: 1}}\n" for i in range(1, 30)
)

HOSTILE = {
    "aliases of aliases": (BOMB, "holds more than", 5),
    "merges of merges": (MERGES, "holds more than", None),
    "aliases that nest": (LADDER, f"nested more than {DEPTH} levels", None),
    "aliases of a long text": (
        f"a: &a {'x' * 900_000}\nb: [{'*a,' * 30_000}]",
        "holds more than",
        2,
    ),
    "its own part": ("a: &a {b: [*a]}", "*a refers to what it is part of", 1),
    "no such anchor": ("a: *b", "*b has no anchor before it", 1),
    "brackets": ("[" * 50_000, f"nested more than {DEPTH} levels", None),
    "braces": ('{"a":' * 50_000, f"nested more than {DEPTH} levels", None),
    "indented": ("".join(f"{' ' * i}a:\n" for i in range(400)), "nested more than", DEPTH + 1),
    "many values": (f"a: [{'x,' * 30_000}]", "holds more than", 1),
    "many values in JSON": (f"[{'1,' * 30_000}1]", "holds more than", None),
    "a long file": ("a: " + "x" * TEXT_BYTES, "is longer than", None),
    "a number of many digits": (f"a: {'9' * 5000}", "a: 9999", 1),
    "the same in JSON": (f'{{"a": {"9" * 5000}}}', "a finite number of 64 bits", None),
    "beyond 64 bits": ("a: 9223372036854775808", "a finite number of 64 bits", 1),
    "an infinite number": ("a: .inf", "a finite number", 1),
    "no number": ("a: .NaN", "a finite number", 1),
    "infinite by its exponent": ("a: 1e999", "a finite number", 1),
    "infinite in JSON": ('{"a": 1e999}', "a finite number", None),
    "no number in JSON": ('{"a": NaN}', "a finite number", None),
    "a key twice": ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "b.c: is given twice, in line 3 and", 5),
    "a key twice, otherwise quoted": ("a: 1\n'a': 2", "a: is given twice", 2),
    "a key twice in JSON": ('{"a": 1, "a": 2}', "a: is given twice", None),
    "two merges": ("a: {<<: {x: 1}, <<: {y: 2}}", "a.<<: is given twice", 1),
    "a merge of text": ("a: {<<: x}", "merges mappings alone", 1),
    "a list as key": ("[a]: b", "a key must be text", 1),
    "a mapping as key": ("? {a: b}\n: c", "a key must be text", 1),
    "an alias as key": ("a: &a b\n*a : c", "a key must be written out", 2),
    "a Python object": ("a: !!python/object/apply:os.system [ls]", "the tag !!python/object", 1),
    "a Python name": ("a: !!python/name:os.system", "the tag !!python/name:os.system", 1),
    "bytes": ("a: !!binary aGk=", "the tag !!binary is not read", 1),
    "a tag of one's own": ("a: !secret x", "the tag !secret is not read", 1),
    "a tag that is wrong": ("a: !!int x", "x is no int", 1),
    "NUL": ('a: "\\0"', "NUL", 1),
    "half a character": ('{"a": "\\ud83d"}', "half of a character", None),
    "half a character raw": ("a: \ud83d", "half of a character", None),
    "two documents": ("a: 1\n---\nb: 2", "a second document", 2),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_is_refused_at_once_with_its_line(name: str) -> None:
    text, message, line = HOSTILE[name]
    started = time.perf_counter()
    with pytest.raises(TextProblem) as caught:
        read_yaml(text)
    assert time.perf_counter() - started < 2
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200
    if line is not None:
        assert caught.value.line == line
    assert not caught.value.syntax


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\ta: 1", "a: \x1b", "- a\nb", "%FOO\na: 'x"])
def test_what_is_no_yaml_is_told_from_what_is_refused(text: str) -> None:
    with pytest.raises(TextProblem, match="not valid YAML") as caught:
        read_yaml(text)
    assert caught.value.syntax


def test_the_largest_recipe_that_is_read_takes_a_moment() -> None:
    text = "\n".join(f"k{i}: [1, x, {{y: 2}}]" for i in range((VALUES - 10) // 7))
    started = time.perf_counter()
    assert len(read_yaml(text)) > 2000
    assert time.perf_counter() - started < 3


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.sampled_from(["1e-3", "007", "no", "1:30", "<<", "0o7", ".inf", "9" * 99, "=", "1_0"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_what_is_written_is_read_again_here_and_elsewhere(value: Any) -> None:
    written = write_yaml({"key": value})
    assert read_yaml(written) == {"key": value}
    assert yaml.safe_load(written) == {"key": value}


@pytest.mark.parametrize(
    "name", ["aliases of aliases", "merges of merges", "aliases of a long text"]
)
def test_a_hostile_recipe_takes_little_memory(tmp_path: Path, name: str) -> None:
    """The whole command, in an address space that would not do for what the text would grow to."""
    path = tmp_path / "recipe.yaml"
    path.write_text(HOSTILE[name][0], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "edgepeft.cli.app", "plan", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9)),
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1


@given(texts | st.sampled_from(["🙂", "a: b", "\x7f\x1b", " x ", "1e-3", "#", "é" * 200]))
def test_a_quoted_text_is_read_as_it_is(text: str) -> None:
    assert read_yaml(quoted(text)) == text
