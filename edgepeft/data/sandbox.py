"""Where chat templates run: jinja's sandbox, with a budget for everything a template does.

jinja guards the machine's files and objects; it counts neither time nor memory. Here every loop turn, call,
filter and comparison is a step, every string and list that comes of one is charged with its bytes, what would
grow is refused before it is made, and the thread's processor time is looked at on the way. All of it happens in
the thread that renders, so it holds in a server's threads too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jinja2 import Environment, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.utils import Cycler, Namespace

from edgepeft.compat.jinja_source import RewritingSandbox
from edgepeft.data.sandbox_budget import Budget, Spending
from edgepeft.data.sandbox_filters import bounded_filters, bounded_tests
from edgepeft.data.sandbox_methods import METHODS, bound_method, format_size, percent_size
from edgepeft.data.sandbox_values import MAX_BYTES, expanded, shallow

MAX_EXPONENT = 64


class _Generation(Extension):
    """``{% generation %}`` marks what the assistant said; here it only opens a scope."""

    tags = {"generation"}  # noqa: RUF012 (jinja declares it an instance variable)

    def parse(self, parser: Parser) -> nodes.Node:
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=lineno)


class TemplateNamespace(Namespace):
    """jinja's namespace, less the underscored names that reach into Python's own machinery."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        values = dict(*args, **kwargs)
        for name in values:
            _refuse_private(name)
        super().__init__(values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        # What it holds may hold it again: shown, it would never end.
        return "<Namespace>"


class TemplateDict:
    """``dict`` as templates know it."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, names: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        """As Python's own."""
        return dict.fromkeys(names, value)


_OPERATORS = frozenset({"+", "-", "*", "/", "//", "%", "**"})
_PUBLIC: dict[type, frozenset[str]] = {
    str: METHODS,
    dict: frozenset({"get", "items", "keys", "values", "copy"}),
    list: frozenset({"index", "count", "copy"}),
    tuple: frozenset({"index", "count"}),
}
_SHAPERS = (Macro, LoopContext)
_HELPERS = (TemplateNamespace, TemplateDict, Cycler, *_SHAPERS)


class Sandbox(RewritingSandbox):
    """The environment of one template. What a rendering may spend is put into ``spending`` when it begins."""

    intercepted_binops = _OPERATORS

    def __init__(self, functions: dict[str, Callable[..., Any]]) -> None:
        """``functions`` are further globals of the template."""
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        self.spending = Spending()
        self._text_bytes = 0
        self.filters = bounded_filters(self.spending)
        self.filters.update(_counted=_counted, _shown=_shown, _compared=_compared, _sliced=_sliced)
        self.tests.update(bounded_tests(self.spending))
        # Placeholder prose nobody's template needs, with an unbounded argument.
        self.globals.pop("lipsum", None)
        self.globals.update(functions, dict=TemplateDict(), namespace=TemplateNamespace)

    def rewrite(self, source: nodes.Template) -> None:
        """Put a filter of ours around whatever takes time or room and is no call."""
        for compare in list(source.find_all(nodes.Compare)):
            compare.expr = _filtered(compare.expr, "_compared")
            for operand in compare.ops:
                operand.expr = _filtered(operand.expr, "_compared")
        for pair in list(source.find_all(nodes.Pair)):
            pair.key = _filtered(pair.key, "_compared")  # a key is hashed, all that it holds
        for join in list(source.find_all(nodes.Concat)):
            join.nodes = [_filtered(node, "_shown") for node in join.nodes]
        for item in list(source.find_all(nodes.Getitem)):
            if isinstance(item.arg, nodes.Slice):
                item.node = _filtered(item.node, "_sliced")
        for output in list(source.find_all(nodes.Output)):
            output.nodes = [
                node if isinstance(node, nodes.TemplateData) else _filtered(node, "_shown")
                for node in output.nodes
            ]
        for loop in list(source.find_all(nodes.For)):
            written = sum(len(data.data) for data in loop.find_all(nodes.TemplateData))
            loop.iter = _filtered(loop.iter, "_counted", nodes.Const(written))
        self._text_bytes = sum(len(data.data) for data in source.find_all(nodes.TemplateData))
        source.set_environment(self)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """jinja's own answer, and of values only the methods whose cost is known."""
        if not super().is_safe_attribute(obj, attr, value):
            return False
        if isinstance(obj, _HELPERS):
            return True
        kind = next((kind for kind in _PUBLIC if isinstance(obj, kind)), None)
        return attr in _PUBLIC[kind] if kind is not None else not callable(value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """jinja's safe ``str.format``, bounded."""
        safe = super().wrap_str_format(value)
        if safe is None:
            return None
        if value.__name__ != "format":
            raise SecurityError("it calls format_map")

        def bounded(*args: Any, **kwargs: Any) -> str:
            self.spending.budget.room(format_size(value.__self__, args, kwargs))
            return safe(*args, **kwargs)

        return bounded

    def getitem(self, obj: Any, argument: Any) -> Any:
        """An item; one that is looked up by a tuple is looked up by all that it holds."""
        if isinstance(argument, tuple):
            self.spending.budget.charge(expanded(argument))
        return super().getitem(obj, argument)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """One step, bounded before and charged after."""
        budget = self.spending.budget
        budget.step(1 + len(args) // 16)
        if isinstance(obj, LoopContext) and args:
            # A recursive loop goes through what it is called with, past what counts other loops.
            args = (_counted(context, args[0], self._text_bytes), *args[1:])
        elif not isinstance(obj, _SHAPERS) and obj is not TemplateNamespace:
            for value in (*args, *kwargs.values()):
                if isinstance(value, int) and abs(value) > MAX_BYTES:
                    raise SecurityError("it asks for a string or list of absurd length")
                budget.charge(expanded(value))
        args = bound_method(obj, args, kwargs, budget)
        return self._made(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """One step, bounded before and charged after."""
        self.spending.budget.step()
        if operator == "**" and abs(right) > MAX_EXPONENT:
            raise SecurityError("it raises a number to an absurd power")
        if operator == "*":
            for many, times in ((left, right), (right, left)):
                if isinstance(times, int) and isinstance(many, str | list | tuple):
                    self.spending.budget.room(shallow(many) * max(times, 0))
        if operator == "%" and isinstance(left, str):
            self.spending.budget.room(percent_size(left, right))
        return self._made(super().call_binop(context, operator, left, right))

    def _made(self, value: Any) -> Any:
        """``value`` itself, charged. Raises SecurityError for what is too large."""
        self.spending.budget.charge(shallow(value))
        return value


def _filtered(node: Any, name: str, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None)


def _budget(environment: Environment) -> Budget:
    assert isinstance(environment, Sandbox)
    return environment.spending.budget


# They take the context, for what needs one is never computed while a template is compiled.
@pass_context
def _counted(context: Context, items: Iterable[Any], written: int) -> Iterator[Any]:
    """What every loop iterates over: its items, each one a step, and the text that a turn writes."""
    budget = _budget(context.environment)
    for item in items:
        budget.step()
        budget.charge(written)
        yield item


@pass_context
def _shown(context: Context, value: Any) -> str:
    """A value as the text that is written for it."""
    budget = _budget(context.environment)
    if not isinstance(value, str):
        budget.charge(expanded(value))
        value = str(value)
    budget.charge(len(value))
    return str(value)


@pass_context
def _compared(context: Context, value: Any) -> Any:
    """An operand of a comparison, which looks at all that it holds."""
    budget = _budget(context.environment)
    budget.step()
    if not isinstance(value, str | int | float | None):
        budget.charge(expanded(value))
    return value


@pass_context
def _sliced(context: Context, value: Any) -> Any:
    """What a slice is taken of, which may be a copy of all of it."""
    budget = _budget(context.environment)
    budget.step()
    budget.charge(shallow(value))
    return value


def _refuse_private(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace may not hold {name!r}")
