"""What an evaluation found, typed; lm_eval's own result is a mapping whose keys are made of names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Score:
    """A measure, its standard error where lm_eval has one, and whether more of it is better, where it says so."""

    value: float | None
    stderr: float | None
    higher_is_better: bool | None


@dataclass(frozen=True)
class TaskScores:
    """The measures of a task or a group, each by its name, with that of its filter after a comma if it has one.

    ``samples`` rows were asked, of ``of`` that the task has; the latter is None for a group.
    """

    metrics: Mapping[str, Score]
    samples: int
    of: int | None
    fewshot: int | None
    version: str | None


@dataclass(frozen=True)
class EvalResult:
    """One evaluation of a bundle; ``truncated`` requests lost their beginning to the context's length.

    ``versions`` are those of the libraries that took part.
    """

    bundle: str
    adapter: str | None
    tasks: Mapping[str, TaskScores]
    groups: Mapping[str, TaskScores]
    chat: bool
    truncated: int
    seconds: float
    versions: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """What ``edgepeft eval --json`` prints."""
        return asdict(self)


def task_scores(found: Mapping[str, Any], kind: str, name: str) -> TaskScores:
    """The scores of one task ("results") or group ("groups") out of what ``lm_eval.evaluate`` returned."""
    measured: Mapping[str, Any] = found[kind][name]
    better = found["higher_is_better"].get(name) or {}
    scores = {}
    for key, value in measured.items():
        measure, comma, filtered = key.partition(",")
        if not comma or measure.endswith("_stderr"):
            continue
        scores[measure if filtered == "none" else key] = Score(
            _number(value),
            _number(measured.get(f"{measure}_stderr,{filtered}")),
            better.get(measure),
        )
    count = found["n-samples"].get(name)
    version = found["versions"].get(name)
    return TaskScores(
        metrics=scores,
        samples=int(count["effective"] if count else measured.get("sample_len", 0)),
        of=int(count["original"]) if count else None,
        fewshot=found["n-shot"].get(name),
        version=None if version is None else str(version),
    )


def _number(value: Any) -> float | None:
    """A finite number, for JSON has no other; None for what is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
