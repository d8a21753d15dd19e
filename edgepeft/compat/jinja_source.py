"""Templates changed between their parsing and their compilation.

Written for Jinja2 3.1. Overrides ``Environment._generate``, which jinja calls an internal hook: it gets a
template's syntax tree before Python code is made of it. Nothing public stands between the two; an extension
sees single statements, or the text. A public hook there would make this unnecessary.
"""

from __future__ import annotations

from typing import Any

from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment


class RewritingSandbox(ImmutableSandboxedEnvironment):
    """A sandbox that calls ``rewrite`` with every template."""

    def rewrite(self, source: nodes.Template) -> None:
        """Change a template's syntax tree in place."""

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        self.rewrite(source)
        return super()._generate(source, *args, **kwargs)
