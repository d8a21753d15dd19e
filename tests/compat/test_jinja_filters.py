"""The mark that is looked for is the one by which jinja gives a filter its context."""

from __future__ import annotations

from typing import Any

import pytest
from jinja2 import Environment, pass_context, pass_environment, pass_eval_context
from jinja2.filters import FILTERS

from edgepeft.compat.jinja_filters import passes_context


@pytest.mark.parametrize("mark", [pass_context, pass_environment, pass_eval_context])
def test_a_marked_filter_gets_something_first(mark: Any) -> None:
    def counts(*arguments: Any) -> int:
        return len(arguments)

    environment = Environment()
    environment.filters.update(plain=counts, given=mark(lambda *arguments: counts(*arguments)))
    assert environment.from_string("{{ 1 | plain }} {{ 1 | given }}").render() == "1 2"
    assert not passes_context(environment.filters["plain"])
    assert passes_context(environment.filters["given"])


def test_filters_of_jinjas_own_carry_it() -> None:
    assert passes_context(FILTERS["map"])
    assert not passes_context(FILTERS["upper"])
