"""The table of supported models, made of what the matrix saw.

``EDGEPEFT_MATRIX=record pytest tests/architectures`` carries every case and writes it.
"""

from __future__ import annotations

import json
import os
import re
import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from edgepeft.targets import ProvenModel
from edgepeft_exporters.proven import FILE, proven

Result = Callable[[str], Mapping[str, Any]]


def recording() -> bool:
    """Whether this run is to be kept."""
    return os.environ.get("EDGEPEFT_MATRIX") == "record"


def keep(exporter: str, families: Iterable[ProvenModel]) -> None:
    """Write an exporter's part of the table."""
    recorded = json.loads(FILE.read_text()) if FILE.is_file() else {}
    recorded[exporter] = [family.as_dict() for family in families]
    FILE.write_text(json.dumps(recorded, indent=1) + "\n")
    proven.cache_clear()


def decoder(family: str, cases: Mapping[str, Any], result: Result) -> ProvenModel:
    """A family of decoders, of the results of its cases."""
    found = [result(name) for name in cases]
    said = json.dumps([dict(case.config) for case in cases.values()])
    kinds = set(re.findall(r'"rope_type": "(\w+)"', said)) - {"default"}
    return ProvenModel(
        family=family,
        configurations=len(found),
        difference=_rounded(
            max(
                one["difference"]
                for result in found
                for one in (result["graph"], *result["engines"].values())
            )
        ),
        int4_kl=_rounded(statistics.mean(result["int4"] for result in found)),
        rotary=tuple(sorted(kinds)),
        runtimes=tuple(sorted({name for result in found for name in result["engines"]})),
    )


def encoder(family: str, names: Iterable[str], result: Result) -> ProvenModel:
    """A family of encoders, of the results of its cases."""
    found = [result(name) for name in names]
    largest = max(max(*one["differences"], one["padded"]) for one in found)
    return ProvenModel(
        family=family,
        configurations=len(found),
        difference=_rounded(largest),
        runtimes=("onnxruntime",),
    )


def _rounded(number: float) -> float:
    return float(f"{number:.1e}")
