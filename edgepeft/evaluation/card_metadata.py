"""What the hub reads of a bundle's card: base, license, data, task and measures, as YAML at its top."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepeft.metrics.names import vocabulary
from edgepeft.models.tasks import GENERATION, hub_task

_OF_OTHERS = ("reference_", "base_")
_TEST = "data.test"


@dataclass(frozen=True)
class Origins:
    """Where a bundle's base and data come from, as far as that is known, and what was said before every row.

    ``base_model`` is an id of the hub, ``license`` the keys by which the base's card states one, and ``sources``
    what the recipe named on the hub, each with key, repo, kind, commit and files. ``system`` is the system
    message of rows that have none of their own.
    """

    base_model: str | None = None
    license: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[Mapping[str, Any], ...] = ()
    system: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """What of it is known, as a bundle's report keeps it."""
        facts = {
            "base_model": self.base_model,
            "license": dict(self.license),
            "sources": [dict(source) for source in self.sources],
            "system": self.system,
        }
        return {key: value for key, value in facts.items() if value}


def card_metadata(report: Mapping[str, Any]) -> str:
    """The block between dashes that a bundle's card begins with."""
    from huggingface_hub import EvalResult, ModelCardData

    facts, sources = report["fidelity"], report.get("sources", ())
    task = facts.get("task", GENERATION)
    datasets = dict.fromkeys(one["repo"] for one in sources if one["kind"] == "dataset")
    tested = next((one for one in sources if one["key"] == _TEST), None)
    results = [
        EvalResult(
            task_type=hub_task(task),
            metric_type=name,
            metric_name=name.replace("_", " "),
            metric_value=facts[name],
            dataset_type=tested["repo"] if tested else "custom",
            dataset_name=tested["repo"] if tested else "held-out rows",
            dataset_revision=tested["commit"] if tested else None,
        )
        for name in vocabulary(facts).contract
        if not name.startswith(_OF_OTHERS) and _is_figure(facts.get(name))
    ]
    data = ModelCardData(
        base_model=report.get("base_model"),
        datasets=list(datasets) or None,
        model_name=f"{report['base']} for {report['target']}",
        pipeline_tag=hub_task(task),
        tags=["edgepeft", "onnx", report["target"], *report["runtimes"]],
        eval_results=results or None,
        **report.get("license", {}),
    )
    return f"---\n{data.to_yaml()}\n---\n\n"


def has_metadata(card: Path) -> bool:
    """Whether a card begins with such a block."""
    return card.read_text(encoding="utf-8").startswith("---\n")


def source_lines(report: Mapping[str, Any]) -> list[str]:
    """One line of the card for each thing that came from the hub."""
    return [
        f"- {source['key']}: {source['repo']} at commit {source['commit']}"
        + (f" ({', '.join(source['files'][:5])})" if source["files"] else "")
        for source in report.get("sources", ())
    ]


def _is_figure(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
