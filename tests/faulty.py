"""Faults at every operation on files, in this process or in a command: what is written is whole or not there."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).parent / "faults"


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("faults", FOLDER / "sitecustomize.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def fault(kind: str, number: int, what: str, below: Path, mark: Path) -> Iterator[None]:
    """Have the operation fail in this process; ``mark`` is there afterwards if it came to that."""
    mark.unlink(missing_ok=True)
    undo = _loaded().Fault(kind, number, what, below, mark).install()
    try:
        yield
    finally:
        undo()


def environment(kind: str, number: int, what: str, below: Path, mark: Path) -> dict[str, Any]:
    """The same for a command and the processes of its stages."""
    mark.unlink(missing_ok=True)
    return {
        "PYTHONPATH": str(FOLDER),
        "EDGEPEFT_TEST_FAULT": f"{kind}:{number}:{what}",
        "EDGEPEFT_TEST_FAULT_BELOW": str(below),
        "EDGEPEFT_TEST_FAULT_MARK": str(mark),
    }
