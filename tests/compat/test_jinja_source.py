"""jinja hands every template to the overridden hook, before it is compiled."""

from __future__ import annotations

import inspect

from jinja2 import Environment, nodes

from edgepeft.compat.jinja_source import RewritingSandbox


class Louder(RewritingSandbox):
    """Puts an exclamation mark behind every text."""

    seen = 0

    def rewrite(self, source: nodes.Template) -> None:
        assert isinstance(source, nodes.Template)
        self.seen += 1
        for data in source.find_all(nodes.TemplateData):
            data.data += "!"


def test_the_hook_takes_a_syntax_tree() -> None:
    assert list(inspect.signature(Environment._generate).parameters)[:2] == ["self", "source"]


def test_a_template_is_compiled_from_what_it_was_rewritten_to() -> None:
    environment = Louder()
    template = environment.from_string("hello {{ name }}")
    assert environment.seen == 1
    assert template.render(name="you") == "hello !you"
