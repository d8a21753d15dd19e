"""Only compat uses private parts of libraries; each module of it says what it was written for, and has a test."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.conftest import ROOMS, ROOT

PACKAGES = ("edgepeft", "exporters/edgepeft_exporters", "tui/edgepeft_tui")
MODULES = sorted(path for room in ROOMS for path in room.glob("*.py") if path.stem != "__init__")
OF_PYTHON = frozenset({"os._exit"})
"""Underscored names that Python itself documents."""


def sources() -> Iterator[Path]:
    """Every module of ours that is no module of compat."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if path.parent not in ROOMS:
                yield path


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def own_names() -> set[str]:
    """Underscored names that a module outside compat gives something."""
    found: set[str] = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.attr if isinstance(node, ast.Attribute) else node.id)
    return found


def private_uses(path: Path, own: set[str]) -> Iterator[str]:
    """Names of others that begin with an underscore, as a module uses or imports them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if ast.unparse(node) not in OF_PYTHON and node.attr not in own:
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "getattr",
            "hasattr",
            "setattr",
        ):
            name = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
            if is_private(str(name)) and name not in own:
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            parts = [part for one in node.names for part in one.name.split(".")]
            parts += (getattr(node, "module", None) or "").split(".")
            if any(is_private(part) for part in parts):
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"


def test_private_names_of_libraries_are_used_in_compat_alone() -> None:
    own = own_names()
    found = [use for path in sources() for use in private_uses(path, own)]
    assert found == [], "move these into a module of compat"


def test_attributes_of_imported_modules_and_classes_are_set_in_compat_alone() -> None:
    found = []
    for path in sources():
        tree = ast.parse(path.read_text())
        imported = {
            (one.asname or one.name).partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            and not (getattr(node, "module", None) or "").startswith("edgepeft")
            for one in node.names
        } - {"sys", "threading"}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                first = ast.unparse(node).partition(".")[0]
                if first in imported:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert found == [], "move these into a module of compat"


def test_private_methods_of_libraries_are_overridden_in_compat_alone() -> None:
    found = set()
    for path in sources():
        if not re.search(r"^class .*\(", path.read_text(), re.MULTILINE):
            continue
        package = next(package for package in PACKAGES if path.is_relative_to(ROOT / package))
        parts = path.relative_to((ROOT / package).parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        for kind in vars(importlib.import_module(name)).values():
            if isinstance(kind, type) and kind.__module__ == name:
                found |= {f"{name}.{kind.__name__}.{own}" for own in overridden(kind)}
    assert found == set(), "move these into a module of compat"


def overridden(kind: type) -> Iterator[str]:
    """Private methods and properties of a class that a library's class among its bases has too."""
    others = [base for base in kind.__mro__[1:] if not base.__module__.startswith("edgepeft")]
    for name, value in vars(kind).items():
        written = getattr(value, "fget", value)
        ours = getattr(written, "__module__", None) == kind.__module__
        if is_private(name) and ours and any(name in vars(base) for base in others):
            yield name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.stem))
def test_a_module_says_what_it_was_written_for_and_has_a_test(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    said = re.search(r"\nWritten for (.+?)\. ", text)
    assert said is not None
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    for part in said[1].split(" and "):
        library, version = part.split(" ")
        assert pinned[library].startswith(f"{version}."), (
            f"constraints.txt has {library} {pinned[library]}: see whether {path.name} still fits, and say so"
        )
    assert "would make" in " ".join(text.split())
    assert (ROOT / "tests" / "compat" / f"test_{path.name}").is_file()
