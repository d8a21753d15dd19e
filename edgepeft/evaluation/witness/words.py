"""What the second witness says, in a line for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def witness_line(name: str, facts: Mapping[str, Any]) -> str:
    """One line for people on what the second witness says of a target."""
    reference = facts.get("reference")
    beside = "" if reference is None else f"; reference within {_share(reference['difference'])}"
    engines = ", ".join(
        f"{engine} {_share(one['difference'])}" for engine, one in facts["engines"].items()
    )
    if facts["compared"] is None:
        return f"second witness: {name}{beside}; {facts['seconds']:.0f} s"
    return (
        f"second witness: {name}: {facts['compared']} within {_share(facts['difference'])} of transformers and "
        f"PEFT at {facts['positions']} positions of texts up to {facts['longest']} tokens"
        + (f" ({engines})" if engines else "")
        + f"{beside}; {facts['seconds']:.0f} s"
    )


def _share(difference: float | None) -> str:
    return "no number" if difference is None else f"{difference:.1e}"
