"""Saying on stderr what a bundle that missed a gate has lost, and what to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepeft.cli.options import ProgressMode
from edgepeft.cli.streams import say
from edgepeft.evaluation.advice_lines import advice_lines


def say_advice(bundles: Sequence[Mapping[str, Any]], progress: ProgressMode) -> None:
    """Print the advice of bundles' entries, except among JSON lines: programs find it in ``build --json``."""
    if progress is ProgressMode.jsonl:
        return
    for bundle in bundles:
        if "advice" in bundle:
            name = str(bundle.get("cell", bundle["target"]))
            for line in advice_lines(name, bundle["advice"]):
                say(line, err=True)
