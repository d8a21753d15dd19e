"""Tests go through what is public: no test imports or touches a name of ours that begins with an underscore."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.compat.conftest import ROOT
from tests.compat.test_room import is_private, own_names

PATCHES = frozenset({"setattr", "getattr", "hasattr", "delattr", "object"})
"""Calls that take an attribute's name: Python's own, those of monkeypatch, and ``mock.patch.object``."""
OURS = re.compile(r"edgepeft(_exporters|_tui)?(\.\w+)+")
ELSEWHERE = {
    "app._notifications": "Textual's own; an app has no public list of its notices",
}
"""What is no name of ours, though one of ours is called alike."""


def modules() -> Iterator[Path]:
    """Every module of the tests; those of compat touch private names of libraries, which is their purpose."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path.parent.name != "compat":
            yield path


def touched(tree: ast.Module, own: set[str]) -> Iterator[tuple[int, str]]:
    """Line and text of each place where a test module touches a private name that is among ``own``.

    A name that the module gives something itself is the test's.
    """
    written = set(given(tree))
    for node in ast.walk(tree):
        names: list[str] = []
        match node:
            case ast.Attribute(value=value, attr=name):
                if not (isinstance(value, ast.Name) and name in written):
                    names = [name]
            case ast.ImportFrom(module=str(module)) if module.startswith("edgepeft"):
                names = [*module.split("."), *(one.name for one in node.names)]
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)):
                if called in PATCHES:
                    names = [
                        str(word.value) for word in node.args if isinstance(word, ast.Constant)
                    ]
            case ast.Constant(value=str(text)) if OURS.fullmatch(text):
                names = text.split(".")
        if any(is_private(name) and name in own for name in names):
            yield getattr(node, "lineno", 0), ast.unparse(node)


def given(tree: ast.Module) -> Iterator[str]:
    """Names of functions and classes that a module defines, and of attributes that it sets on ``self``."""
    for node in ast.walk(tree):
        match node:
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name


def test_tests_touch_no_private_name_of_ours() -> None:
    own = own_names()
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in modules()
        for line, text in touched(ast.parse(path.read_text()), own)
        if text not in ELSEWHERE
    ]
    assert found == [], "test what can be seen from outside, or give it a public name"


def test_every_way_to_touch_a_private_name_is_found() -> None:
    own = {"_hidden"}
    for line in (
        "thing._hidden",
        "thing.part._hidden = 3",
        "from edgepeft.module import _hidden",
        "from edgepeft_tui._hidden import name",
        "monkeypatch.setattr(module, '_hidden', 3)",
        "monkeypatch.setattr('edgepeft.module._hidden', 3)",
        "getattr(thing, '_hidden')",
        "class Mine(Ours):\n    def ask(self):\n        return self._hidden",
    ):
        assert list(touched(ast.parse(line), own)), line
    for line in (
        "thing.shown",
        "thing._other",
        "from tests.tiny import _hidden",
        "class Own:\n    def ask(self):\n        self._hidden = 3\n        return self._hidden",
        "'_hidden'",
    ):
        assert not list(touched(ast.parse(line), own)), line
