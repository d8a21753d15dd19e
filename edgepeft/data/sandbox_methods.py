"""What a template's calls of methods may make, told from their arguments before they run.

Only methods that are listed exist for a template. Where a result is about as long as what it is made from,
charging for it afterwards is enough; for the others a bound is held against the budget first.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import SecurityError

from edgepeft.data.sandbox_values import NODE_BYTES, expanded, shallow

if TYPE_CHECKING:
    from edgepeft.data.sandbox_budget import Budget

Arguments = tuple[Any, ...]
Bound = Callable[[str, Arguments], float]
"""Bytes of what is made of a text, at most, from the text and the further arguments."""

_WIDTH = re.compile(r"\d+")
_PERCENT = re.compile(r"%(?:\([^)]*\))?[-+ #0]*(\*|\d*)(?:\.(\*|\d*))?")
_WRITTEN_OUT = 10
"""Characters that one of a text may become where a value that holds it is written out."""


def named(names: str) -> frozenset[str]:
    """Names written in one line."""
    return frozenset(names.split())


def _number(arguments: Arguments, place: int, otherwise: int) -> int:
    value = arguments[place] if len(arguments) > place else otherwise
    return max(value, -1) if isinstance(value, int) else otherwise


def wide(text: str, arguments: Arguments) -> float:
    """A text filled up to a width."""
    return 4 * max(len(text), _number(arguments, 0, 80))


def _tabs(text: str, arguments: Arguments) -> float:
    return 4 * (len(text) + text.count("\t") * _number(arguments, 0, 8))


def replaced(text: str, arguments: Arguments) -> float:
    """A text with one part of it replaced by another, wherever it stands."""
    old, new = (str(part) for part in (*arguments, "", "")[:2])
    return shallow(text) + text.count(old) * shallow(new)


def _split(text: str, arguments: Arguments) -> float:
    mark, most = arguments[0] if arguments else None, _number(arguments, 1, -1)
    parts = text.count(mark) if isinstance(mark, str) and mark else len(text) // 2
    return shallow(text) + NODE_BYTES * (parts if most < 0 else min(parts, most))


def words(text: str, arguments: Arguments) -> float:
    """A text taken apart into its words."""
    return shallow(text) + NODE_BYTES * len(text) / 2


def indented(text: str, arguments: Arguments) -> float:
    """A text with every line of it indented."""
    first = arguments[0] if arguments else 4
    width = len(first) if isinstance(first, str) else _number(arguments, 0, 4)
    return shallow(text) + 4 * width * (text.count("\n") + 2)


_GROWING: dict[str, Bound] = {
    "center": wide,
    "ljust": wide,
    "rjust": wide,
    "zfill": wide,
    "expandtabs": _tabs,
    "replace": replaced,
    "split": _split,
    "rsplit": _split,
    "splitlines": words,
    "title": words,
}
_LINEAR = (
    "strip lstrip rstrip startswith endswith upper lower capitalize casefold swapcase find rfind index rindex "
    "count partition rpartition removeprefix removesuffix isalnum isalpha isascii isdecimal isdigit "
    "isidentifier islower isnumeric isprintable isspace istitle isupper format join"
)
METHODS = frozenset(_GROWING) | named(_LINEAR)
"""Of texts; others are refused."""


def bound_method(
    method: Any, arguments: Arguments, by_name: Mapping[str, Any], budget: Budget
) -> Arguments:
    """The arguments to call ``method`` with, once the budget has room for what it makes. Raises SecurityError."""
    owner = getattr(method, "__self__", None)
    if isinstance(owner, list | tuple):
        budget.charge(expanded(owner))  # index and count compare
    if not isinstance(owner, str):
        return arguments
    if method.__name__ == "join" and arguments:
        parts = gathered(arguments[0], budget)
        budget.room(sum(map(shallow, parts)) + shallow(owner) * len(parts))
        return (parts, *arguments[1:])
    bound = _GROWING.get(method.__name__)
    if bound is not None:
        budget.room(bound(owner, (*arguments, *by_name.values())))
    return arguments


def format_size(text: str, arguments: Arguments, by_name: Mapping[str, Any]) -> float:
    """Bytes of ``text.format(...)``, at most. Raises SecurityError for a width that is a value."""
    fields, widths = 0, 0
    for _, field, form, _ in string.Formatter().parse(text):
        if "{" in (form or ""):
            raise SecurityError("it takes the width of a text from its values")
        fields += field is not None
        widths += sum(int(digits[:9]) for digits in _WIDTH.findall(form or ""))
    return shallow(text) + 4 * widths + fields * _longest((*arguments, *by_name.values()))


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


def gathered(items: Iterable[Any], budget: Budget) -> list[Any]:
    """The members of something that is gone through, each one a step."""
    found = []
    for item in items:
        budget.step()
        found.append(item)
    return found
