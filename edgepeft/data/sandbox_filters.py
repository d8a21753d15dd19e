"""The filters and tests that templates may use, each use of one a step within a budget.

A filter that passes members on is charged for what it makes alone. One that writes its input out, or looks into
all members, is charged for everything that is in there.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.tests import TESTS

from edgepeft.compat.jinja_filters import passes_context
from edgepeft.data.sandbox_methods import (
    Arguments,
    Bound,
    gathered,
    indented,
    named,
    percent_size,
    replaced,
    wide,
    words,
)
from edgepeft.data.sandbox_values import NODE_BYTES, expanded, shallow

if TYPE_CHECKING:
    from edgepeft.data.sandbox_budget import Budget, Spending

_MAX_COUNT = 100_000
_MAX_INDENT = 16
_PASSING = named(
    "first last length count list map select reject selectattr rejectattr reverse items default d batch slice "
    "safe attr"
)
"""Filters that pass their input's members on, whatever these hold."""
_GATHERING = named("dictsort groupby join max min sort sum unique")
"""Filters that go through all members and look into them."""
_WRITING = named(
    "abs capitalize center e escape float forceescape format indent int lower replace round string title tojson "
    "trim truncate upper urlencode wordcount"
)
"""Filters that write their input out as text, or as a number."""
_COUNTING = named("batch slice round")
_WHOLE_TEXTS = named("default d length count safe attr reverse")

_FILTER_BOUNDS: dict[str, Bound] = {
    "center": wide,
    "indent": indented,
    "replace": replaced,
    "format": percent_size,
    "title": words,
    "wordcount": words,
    "urlencode": lambda text, arguments: 12 * len(text),
    "escape": lambda text, arguments: 6 * shallow(text),
    "e": lambda text, arguments: 6 * shallow(text),
    "forceescape": lambda text, arguments: 6 * shallow(text),
}


def bounded_filters(spending: Spending) -> dict[str, Callable[..., Any]]:
    """The filters that templates may use, jinja's own but for ``tojson``; every use is a step of a budget."""
    known = {name: FILTERS[name] for name in _PASSING | _GATHERING | _WRITING}
    known["tojson"] = _json_filter(spending)
    return {name: _bounded_filter(name, function, spending) for name, function in known.items()}


def _bounded_filter(
    name: str, function: Callable[..., Any], spending: Spending
) -> Callable[..., Any]:
    place = 1 if passes_context(function) else 0

    @functools.wraps(function)
    def filtered(*arguments: Any, **by_name: Any) -> Any:
        budget = spending.budget
        budget.step()
        value, given = arguments[place], (*arguments[place + 1 :], *by_name.values())
        for one in given:
            budget.charge(expanded(one))
            if name in _COUNTING and isinstance(one, int) and abs(one) > _MAX_COUNT:
                raise SecurityError(f"it asks {name} for an absurd number")
        if name in _PASSING:
            if isinstance(value, str) and name not in _WHOLE_TEXTS:
                budget.room(NODE_BYTES * len(value))  # its characters, one by one
        elif name in _GATHERING:
            value = _looked_through(name, value, given, budget)
        else:
            budget.charge(expanded(value))
            if (bound := _FILTER_BOUNDS.get(name)) is not None:
                budget.room(bound(value if isinstance(value, str) else str(value), given))
        made = function(*arguments[:place], value, *arguments[place + 1 :], **by_name)
        if isinstance(made, Iterator):
            return _metered(made, budget)
        # The members of a list that was made may be as new as the list.
        budget.charge(NODE_BYTES * len(made) if isinstance(made, list) else shallow(made))
        return made

    return filtered


def _looked_through(name: str, value: Any, given: Arguments, budget: Budget) -> Any:
    """The members of what a filter looks through, counted and charged."""
    if name == "sum" and any(isinstance(one, list | tuple) for one in given):
        raise SecurityError("it adds up what are no numbers")
    if isinstance(value, Mapping):
        budget.charge(expanded(value))
        return value
    members = gathered(value, budget)
    budget.charge(sum(map(expanded, members)))
    if name == "join":
        # They are written out, each with the text between.
        between = sum(shallow(one) for one in given if isinstance(one, str))
        budget.room(sum(map(expanded, members)) + between * len(members))
    return members


def _metered(items: Iterator[Any], budget: Budget) -> Iterator[Any]:
    """A filter's results one by one, each one a step."""
    for item in items:
        budget.step()
        budget.charge(max(NODE_BYTES, shallow(item)))
        yield item


_COMPARING = named("== eq equalto != ne > gt greaterthan >= ge < lt lessthan <= le in lower upper")


def bounded_tests(spending: Spending) -> dict[str, Callable[..., Any]]:
    """jinja's tests; those that look at all that a value holds are held against a budget."""
    known: dict[str, Any] = dict(TESTS)
    return {
        name: _bounded_test(test, spending) if name in _COMPARING else test
        for name, test in known.items()
    }


def _bounded_test(test: Callable[..., Any], spending: Spending) -> Callable[..., Any]:
    @functools.wraps(test)
    def tested(*arguments: Any) -> Any:
        budget = spending.budget
        budget.step()
        for one in arguments:
            if not isinstance(one, str):
                budget.charge(expanded(one))
        return test(*arguments)

    return tested


def _json_filter(spending: Spending) -> Callable[..., str]:
    """transformers' ``tojson``: jinja's own escapes HTML, which no chat template wants."""

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        width = len(indent) if isinstance(indent, str) else indent or 0
        if width > _MAX_INDENT or any(len(mark) > _MAX_INDENT for mark in separators or ()):
            raise SecurityError("it indents JSON by an absurd width")
        encoder = json.JSONEncoder(
            ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )
        budget, pieces = spending.budget, []
        for piece in encoder.iterencode(value):
            budget.charge(len(piece))
            pieces.append(piece)
        return "".join(pieces)

    return tojson
