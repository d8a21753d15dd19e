"""What empty fields come to: written into them where the recipe's declaration alone does not know."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from edgepeft_tui.draft import Draft
from edgepeft_tui.fields import all_fields


def hints(draft: Draft, facts: Mapping[str, Any] | None) -> dict[str, str]:
    """Words for empty fields by key; ``facts`` are those of the last plan, None before there is one."""
    found = _of_method(_said(draft, "method.name"))
    if draft.get("data.train"):
        found["data.test"] = "a file, or a share: 10%"
    epochs = _said(draft, "training.epochs")
    found["training.max_steps"] = f"{epochs} epochs"
    # A plan of other values than these knows another number.
    if facts is not None and draft.findings.planned and facts["steps"]:
        found["training.max_steps"] += f" = {facts['steps']} steps"
    return found


def _said(draft: Draft, key: str) -> str:
    return draft.text(key) or all_fields()[key].default


def _of_method(name: str) -> dict[str, str]:
    return {f"method.{key}": value for key, value in _defaults().get(name, {}).items()}


@cache
def _defaults() -> dict[str, dict[str, str]]:
    """Method to its own values of the settings that methods share."""
    # The wizard opens before any method is looked at.
    from edgepeft.adapters.methods import all_methods

    return {
        name: {key: f"{value:g}" for key, value in method.defaults.items()}
        for name, method in all_methods().items()
    }
