"""What a template's methods, filters and tests may cost, told from their arguments before they run.

Only what is listed here exists for a template. Where a result is about as long as what it is made from, charging for
it afterwards is enough; for the others a bound is held against the budget first.
"""

from __future__ import annotations

import functools
import json
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.tests import TESTS
from jinja2.utils import _PassArg

from edgepeft.data.sandbox_values import NODE_BYTES, expanded, shallow

if TYPE_CHECKING:
    from edgepeft.data.sandbox import Budget

Arguments = tuple[Any, ...]
Bound = Callable[[str, Arguments], float]
"""Bytes of what is made of a text, at most, from the text and the further arguments."""

_MAX_COUNT = 100_000
_MAX_INDENT = 16
_WIDTH = re.compile(r"\d+")
_PERCENT = re.compile(r"%(?:\([^)]*\))?[-+ #0]*(\*|\d*)(?:\.(\*|\d*))?")
_WRITTEN_OUT = 10
"""Characters that one of a text may become where a value that holds it is written out."""


def _number(arguments: Arguments, place: int, otherwise: int) -> int:
    value = arguments[place] if len(arguments) > place else otherwise
    return max(value, -1) if isinstance(value, int) else otherwise


def _wide(text: str, arguments: Arguments) -> float:
    return 4 * max(len(text), _number(arguments, 0, 80))


def _tabs(text: str, arguments: Arguments) -> float:
    return 4 * (len(text) + text.count("\t") * _number(arguments, 0, 8))


def _replaced(text: str, arguments: Arguments) -> float:
    old, new = (str(part) for part in (*arguments, "", "")[:2])
    return shallow(text) + text.count(old) * shallow(new)


def _split(text: str, arguments: Arguments) -> float:
    mark, most = arguments[0] if arguments else None, _number(arguments, 1, -1)
    parts = text.count(mark) if isinstance(mark, str) and mark else len(text) // 2
    return shallow(text) + NODE_BYTES * (parts if most < 0 else min(parts, most))


def _words(text: str, arguments: Arguments) -> float:
    return shallow(text) + NODE_BYTES * len(text) / 2


def _indented(text: str, arguments: Arguments) -> float:
    first = arguments[0] if arguments else 4
    wide = len(first) if isinstance(first, str) else _number(arguments, 0, 4)
    return shallow(text) + 4 * wide * (text.count("\n") + 2)


_GROWING: dict[str, Bound] = {
    "center": _wide,
    "ljust": _wide,
    "rjust": _wide,
    "zfill": _wide,
    "expandtabs": _tabs,
    "replace": _replaced,
    "split": _split,
    "rsplit": _split,
    "splitlines": _words,
    "title": _words,
}
METHODS = frozenset(_GROWING) | frozenset(
    [
        "strip",
        "lstrip",
        "rstrip",
        "startswith",
        "endswith",
        "upper",
        "lower",
        "capitalize",
        "casefold",
        "swapcase",
        "find",
        "rfind",
        "index",
        "rindex",
        "count",
        "partition",
        "rpartition",
        "removeprefix",
        "removesuffix",
        "isalnum",
        "isalpha",
        "isascii",
        "isdecimal",
        "isdigit",
        "isidentifier",
        "islower",
        "isnumeric",
        "isprintable",
        "isspace",
        "istitle",
        "isupper",
        "format",
        "join",
    ]
)
"""Of texts; others are refused."""


def bound_method(
    method: Any, arguments: Arguments, named: Mapping[str, Any], budget: Budget
) -> Arguments:
    """The arguments to call ``method`` with, once the budget has room for what it makes. Raises SecurityError."""
    owner = getattr(method, "__self__", None)
    if isinstance(owner, list | tuple):
        budget.charge(expanded(owner))  # index and count compare
    if not isinstance(owner, str):
        return arguments
    if method.__name__ == "join" and arguments:
        parts = _gathered(arguments[0], budget)
        budget.room(sum(map(shallow, parts)) + shallow(owner) * len(parts))
        return (parts, *arguments[1:])
    bound = _GROWING.get(method.__name__)
    if bound is not None:
        budget.room(bound(owner, (*arguments, *named.values())))
    return arguments


def format_size(text: str, arguments: Arguments, named: Mapping[str, Any]) -> float:
    """Bytes of ``text.format(...)``, at most. Raises SecurityError for a width that is a value."""
    fields, widths = 0, 0
    for _, field, form, _ in string.Formatter().parse(text):
        if "{" in (form or ""):
            raise SecurityError("it takes the width of a text from its values")
        fields += field is not None
        widths += sum(int(digits[:9]) for digits in _WIDTH.findall(form or ""))
    return shallow(text) + 4 * widths + fields * _longest((*arguments, *named.values()))


def percent_size(text: str, values: Any) -> float:
    """Bytes of ``text % values``, at most. Raises SecurityError for a width that is a value."""
    fields, widths = 0, 0
    for match in _PERCENT.finditer(text):
        if "*" in match.groups():
            raise SecurityError("it takes the width of a text from its values")
        fields += 1
        widths += sum(int((width or "0")[:9]) for width in match.groups())
    given = values if isinstance(values, tuple) else (values,)
    return shallow(text) + 4 * widths + fields * _longest(given)


def _longest(values: Iterable[Any]) -> int:
    """Bytes of the longest of several values once written out."""
    return _WRITTEN_OUT * max((max(NODE_BYTES, expanded(value)) for value in values), default=0)


def _gathered(items: Iterable[Any], budget: Budget) -> list[Any]:
    """The members of something that is gone through, each one a step."""
    found = []
    for item in items:
        budget.step()
        found.append(item)
    return found


_PASSING = frozenset(
    [
        "first",
        "last",
        "length",
        "count",
        "list",
        "map",
        "select",
        "reject",
        "selectattr",
        "rejectattr",
        "reverse",
        "items",
        "default",
        "d",
        "batch",
        "slice",
        "safe",
        "attr",
    ]
)
"""Filters that pass their input's members on, whatever these hold."""
_GATHERING = frozenset(["dictsort", "groupby", "join", "max", "min", "sort", "sum", "unique"])
"""Filters that go through all members and look into them."""
_WRITING = frozenset(
    [
        "abs",
        "capitalize",
        "center",
        "e",
        "escape",
        "float",
        "forceescape",
        "format",
        "indent",
        "int",
        "lower",
        "replace",
        "round",
        "string",
        "title",
        "tojson",
        "trim",
        "truncate",
        "upper",
        "urlencode",
        "wordcount",
    ]
)
"""Filters that write their input out as text, or as a number."""
_COUNTING = frozenset({"batch", "slice", "round"})
_WHOLE_TEXTS = frozenset({"default", "d", "length", "count", "safe", "attr", "reverse"})

_FILTER_BOUNDS: dict[str, Bound] = {
    "center": _wide,
    "indent": _indented,
    "replace": _replaced,
    "format": percent_size,
    "title": _words,
    "wordcount": _words,
    "urlencode": lambda text, arguments: 12 * len(text),
    "escape": lambda text, arguments: 6 * shallow(text),
    "e": lambda text, arguments: 6 * shallow(text),
    "forceescape": lambda text, arguments: 6 * shallow(text),
}


def bounded_filters(budget: Budget) -> dict[str, Callable[..., Any]]:
    """The filters that templates may use, jinja's own but for ``tojson``: every use is a step within ``budget``."""
    known = {name: FILTERS[name] for name in _PASSING | _GATHERING | _WRITING}
    known["tojson"] = _json_filter(budget)
    return {name: _bounded_filter(name, function, budget) for name, function in known.items()}


def _bounded_filter(name: str, function: Callable[..., Any], budget: Budget) -> Callable[..., Any]:
    place = 0 if _PassArg.from_obj(function) is None else 1

    @functools.wraps(function)
    def filtered(*arguments: Any, **named: Any) -> Any:
        budget.step()
        value, given = arguments[place], (*arguments[place + 1 :], *named.values())
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
        made = function(*arguments[:place], value, *arguments[place + 1 :], **named)
        if isinstance(made, Iterator):
            return _metered(made, budget)
        # The members of a list that was made may be as new as the list.
        budget.charge(NODE_BYTES * len(made) if isinstance(made, list) else shallow(made))
        return made

    return filtered


def _looked_through(name: str, value: Any, given: Arguments, budget: Budget) -> Any:
    """The members of what a filter looks through, counted and charged."""
    if isinstance(value, Mapping):
        budget.charge(expanded(value))
        return value
    members = _gathered(value, budget)
    budget.charge(sum(map(expanded, members)))
    if name == "join":
        # They are written out, each with the text between.
        between = sum(shallow(one) for one in given if isinstance(one, str))
        budget.room(sum(map(expanded, members)) + between * len(members))
    if name == "sum" and any(isinstance(one, list | tuple) for one in given):
        raise SecurityError("it adds up what are no numbers")
    return members


def _metered(items: Iterator[Any], budget: Budget) -> Iterator[Any]:
    """A filter's results one by one, each one a step."""
    for item in items:
        budget.step()
        budget.charge(max(NODE_BYTES, shallow(item)))
        yield item


_COMPARING = frozenset(
    [
        "==",
        "eq",
        "equalto",
        "!=",
        "ne",
        ">",
        "gt",
        "greaterthan",
        ">=",
        "ge",
        "<",
        "lt",
        "lessthan",
        "<=",
        "le",
        "in",
        "lower",
        "upper",
    ]
)


def bounded_tests(budget: Budget) -> dict[str, Callable[..., Any]]:
    """jinja's tests; those that look at all that a value holds are held against ``budget``."""
    known: dict[str, Any] = dict(TESTS)
    return {
        name: _bounded_test(test, budget) if name in _COMPARING else test
        for name, test in known.items()
    }


def _bounded_test(test: Callable[..., Any], budget: Budget) -> Callable[..., Any]:
    @functools.wraps(test)
    def tested(*arguments: Any) -> Any:
        budget.step()
        for one in arguments:
            if not isinstance(one, str):
                budget.charge(expanded(one))
        return test(*arguments)

    return tested


def _json_filter(budget: Budget) -> Callable[..., str]:
    """transformers' ``tojson``: jinja's own escapes HTML, which no chat template wants."""

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        wide = len(indent) if isinstance(indent, str) else indent or 0
        if wide > _MAX_INDENT or any(len(mark) > _MAX_INDENT for mark in separators or ()):
            raise SecurityError("it indents JSON by an absurd width")
        encoder = json.JSONEncoder(
            ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )
        pieces = []
        for piece in encoder.iterencode(value):
            budget.charge(len(piece))
            pieces.append(piece)
        return "".join(pieces)

    return tojson
