"""What lm_eval fetches for a task, seen where it is asked for: rows, and measures that are Python code.

Written for lm_eval 0.4 and datasets 5 and evaluate 0.4. lm_eval and the modules of its tasks call
``datasets.load_dataset`` as an attribute of its module, which is set here for a while. They import ``evaluate``
for its ``load`` alone, and here a module stands in its place that refuses: the real one also imports all of
transformers. lm_eval takes whatever it raises for a measure that doesn't exist, so names are kept too. An error
of lm_eval's own that names the data set, and an option against code of the hub, would make this unnecessary.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NoReturn

_MEASURES = "evaluate"


class RowsError(Exception):
    """Rows that could not be loaded; ``path`` is what was asked for, ``cause`` what went wrong."""

    def __init__(self, path: str, cause: Exception) -> None:
        super().__init__(f"{path}: {cause}")
        self.path, self.cause = path, cause


class CodeRefused(Exception):
    """A measure that is fetched as Python code; ``name`` is the measure's."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@contextlib.contextmanager
def watched() -> Iterator[list[str]]:
    """Rows that can't be loaded raise RowsError and measures of the hub CodeRefused, while the context lasts.

    The list gets the names of those measures.
    """
    import datasets

    load_rows, measures = datasets.load_dataset, sys.modules.get(_MEASURES)
    refused: list[str] = []

    def rows(path: str, *arguments: Any, **settings: Any) -> Any:
        try:
            return load_rows(path, *arguments, **settings)
        except Exception as error:
            raise RowsError(str(path), error) from error

    def measure(path: str, *arguments: Any, **settings: Any) -> NoReturn:
        refused.append(str(path))
        raise CodeRefused(str(path))

    stand_in = ModuleType(_MEASURES)
    stand_in.__dict__["load"] = measure
    datasets.load_dataset, sys.modules[_MEASURES] = rows, stand_in
    try:
        yield refused
    finally:
        datasets.load_dataset = load_rows
        del sys.modules[_MEASURES]
        if measures is not None:
            sys.modules[_MEASURES] = measures
