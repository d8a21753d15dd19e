"""Rendering a chat template the way transformers renders it, without transformers.

A template is code that came with a model, so it runs in jinja's sandbox. The sandbox guards the
machine but not the clock: loops, calls and growing strings are counted here as well, so that a
template that never ends is an error instead of a hung device. (It is no memory jail: one native
string operation is still only as bounded as its arguments.)
"""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jinja2 import Environment, TemplateError, nodes, pass_environment
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from edgepeft.data.rows import Message
from edgepeft.errors import InputError, one_line

MAX_STEPS = 200_000
"""Loop turns and calls one rendering may take; a real conversation takes a few for each message."""
MAX_CHARS = 16_000_000
"""Characters a rendering, or any string on the way to it, may have."""
MAX_EXPONENT = 64


class _Generation(Extension):
    """``{% generation %}`` marks what the assistant said; here it only opens a scope."""

    tags = {"generation"}  # noqa: RUF012 (jinja declares it an instance variable)

    def parse(self, parser: Parser) -> nodes.Node:
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=lineno)


class _TemplateNamespace(Namespace):
    """jinja's namespace, less the underscored names that reach into Python's own machinery."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        values = dict(*args, **kwargs)
        for name in values:
            _refuse_private(name)
        super().__init__(values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


class _Sandbox(ImmutableSandboxedEnvironment):
    """The sandbox with a budget: every loop turn and call is one step of ``MAX_STEPS``."""

    intercepted_binops = frozenset({"+", "*", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        self._local = threading.local()
        self.filters.update(tojson=_tojson, _counted=_counted, _bounded=_bounded)
        self.globals.update(
            raise_exception=_raise_exception,
            strftime_now=_strftime_now,
            dict=_make_dict,
            namespace=_TemplateNamespace,
        )
        # Placeholder prose nobody's template needs, with an unbounded argument.
        self.globals.pop("lipsum", None)

    def start(self) -> None:
        """A new rendering begins: the budget is whole again (in this thread)."""
        self._local.steps = 0

    def step(self) -> None:
        """Spend one step; raises SecurityError when none is left."""
        self._local.steps += 1
        if self._local.steps > MAX_STEPS:
            raise SecurityError(f"it takes more than {MAX_STEPS} steps")

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        for loop in list(source.find_all(nodes.For)):
            loop.iter = _filtered(loop.iter, "_counted")
        # `x ~ x` in a loop doubles: with its operands bounded, no step more than doubles the limit.
        for block in list(source.find_all(nodes.AssignBlock)):
            block.filter = _filtered(block.filter, "_bounded")
        for join in list(source.find_all(nodes.Concat)):
            join.nodes = [_filtered(node, "_bounded") for node in join.nodes]
        source.set_environment(self)
        return super()._generate(source, *args, **kwargs)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.step()
        if any(isinstance(arg, int) and abs(arg) > MAX_CHARS for arg in args):
            raise SecurityError("it asks for a string or list of absurd length")
        return _bounded(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and isinstance(right, int | float) and abs(right) > MAX_EXPONENT:
            raise SecurityError("it raises a number to an absurd power")
        if operator == "*":
            for many, times in ((left, right), (right, left)):
                sized = isinstance(times, int) and isinstance(many, str | list | tuple)
                if sized and len(many) * times > MAX_CHARS:
                    raise SecurityError("it repeats a string or list an absurd number of times")
        return _bounded(super().call_binop(context, operator, left, right))


class ChatTemplate:
    """A compiled chat template. ``name`` is what error messages call it.

    Raises InputError if ``source`` is no valid template.
    """

    def __init__(self, source: str, name: str) -> None:
        self.source = source
        self.name = name
        self._env = _Sandbox()
        try:
            self._template = self._env.from_string(source)
        except Exception as error:  # a template's syntax can fail in jinja and in Python's compiler
            raise InputError(f"{name}: not a valid chat template: {one_line(error)}") from error

    def render(
        self,
        messages: Sequence[Message],
        variables: Mapping[str, str],
        *,
        generation_prompt: bool,
        where: str = "",
    ) -> str:
        """The conversation as one string.

        ``variables`` are the special tokens (``bos_token`` and so on); ``where`` names the row in
        errors. Raises InputError when the template refuses the messages, fails, or tries
        something the sandbox forbids.
        """
        self._env.start()
        pieces: list[str] = []
        length = 0
        row = f" at {where}" if where else ""
        try:
            for piece in self._template.generate(
                {
                    **variables,
                    "messages": list(messages),  # a list, not a tuple: templates add to it
                    "tools": None,
                    "documents": None,
                    "add_generation_prompt": generation_prompt,
                }
            ):
                pieces.append(piece)
                length += len(piece)
                if length > MAX_CHARS:
                    raise SecurityError(f"it writes more than {MAX_CHARS} characters")
        except SecurityError as error:
            raise InputError(
                f"{self.name}: the chat template does what a template may not{row}: "
                f"{one_line(error)}; set data.template to a template you trust"
            ) from error
        except Exception as error:  # foreign code: whatever it raises is the template's failure
            kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
            raise InputError(
                f"{self.name}: the chat template fails on the messages{row}: "
                f"{kind}{one_line(error)}; mend the row, or set data.template"
            ) from error
        return "".join(pieces)


def _filtered(node: nodes.Node | None, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None)


@pass_environment
def _counted(environment: Environment, items: Iterable[Any]) -> Iterator[Any]:
    """What every loop iterates over: its items, each one a step of the budget."""
    assert isinstance(environment, _Sandbox)
    for item in items:
        environment.step()
        yield item


def _bounded(value: Any) -> Any:
    """``value`` itself, unless it is a string or list beyond the limit."""
    if isinstance(value, str | list | tuple) and len(value) > MAX_CHARS:
        raise SecurityError(f"it makes a string or list longer than {MAX_CHARS}")
    return value


def _refuse_private(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace may not hold {name!r}")


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def _make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # jinja's own filter escapes HTML, which no chat template wants.
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
