"""The report on a run's rows in one line, as it is shown while a build begins."""

from __future__ import annotations

from typing import Any


def describe_data(report: dict[str, Any]) -> str:
    """The checks of the data in one line: rows, token lengths as a small histogram, truncation."""
    lengths = report["train_lengths"] or report["test_lengths"]
    most = max(lengths["counts"]) or 1
    bars = "".join(" ▁▂▃▄▅▆▇█"[-(-8 * count // most)] for count in lengths["counts"])
    return (
        f"data: {report['train_rows']} training and {report['test_rows']} test rows; tokens "
        f"{lengths['edges'][0]}│{bars}│{lengths['edges'][-1]}, median {lengths['median']}, "
        f"{100 * report['truncated_share']:.0f} % truncated, {report['duplicates']} duplicates, "
        f"{report['overlap']} test prompts also trained on"
    )
