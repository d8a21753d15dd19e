"""What fails in a test of compat says which of its modules to look at: the one of the test's own name."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    ROOT / "edgepeft" / "compat",
    ROOT / "exporters" / "edgepeft_exporters" / "compat",
    ROOT / "tui" / "edgepeft_tui" / "compat",
)


class LibraryChanged(AssertionError):
    """A library is no longer what a module of compat was written for."""


def module_of(test: Path) -> Path | None:
    """The module of compat that a test is of."""
    found = (room / f"{test.stem.removeprefix('test_')}.py" for room in ROOMS)
    return next((path.relative_to(ROOT) for path in found if path.is_file()), None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Name the module in the failure's own line."""
    try:
        return (yield)
    except Exception as error:
        module = module_of(item.path)
        if module is None:
            raise
        first = (str(error).splitlines() or [""])[0]
        raise LibraryChanged(f"look at {module}: {type(error).__name__}: {first}") from error
