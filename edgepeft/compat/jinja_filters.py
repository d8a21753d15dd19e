"""Whether a filter of jinja's is given more than its input.

Written for Jinja2 3.1. Looks for ``jinja_pass_arg``, the mark that ``pass_context``, ``pass_environment`` and
``pass_eval_context`` leave on a function: such a filter gets that object first. A public question for it would
make this unnecessary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def passes_context(function: Callable[..., Any]) -> bool:
    """Whether jinja gives a filter its context, environment or evaluation context before the input."""
    return hasattr(function, "jinja_pass_arg")
