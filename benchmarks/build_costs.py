"""Where a finished build's time and memory went, from the manifests that its stages left.

    python benchmarks/build_costs.py runs/home-control

Overhead is everything but the optimizer's steps and the decoding of the test set.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def manifests(run: Path) -> list[dict[str, Any]]:
    """Manifests of every stage and bundle of a run, in the order they were finished."""
    found = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in [*run.glob("stages/*/edgepeft.json"), *run.glob("bundles/*/edgepeft.json")]
    ]
    return sorted(found, key=lambda manifest: str(manifest["created"]))


def main() -> None:
    """Print the table and the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    total = excluded = 0.0
    packing_peak = 0
    for manifest in manifests(options.run):
        result = manifest["result"]
        work = result.get("step_seconds", 0.0) + result.get("exact_match_seconds", 0.0)
        total += manifest["seconds"]
        excluded += work
        if manifest["stage"].startswith(("merge", "quantize", "export")):
            packing_peak = max(packing_peak, manifest["peak_memory_bytes"])
        note = f"  of which {work:.1f} s steps or decoding" if work else ""
        print(
            f"{manifest['stage']:<18} {manifest['seconds']:8.1f} s "
            f"{manifest['peak_memory_bytes'] / 1e9:6.2f} GB{note}"
        )
    print(f"{'all stages':<18} {total:8.1f} s")
    print(f"{'overhead':<18} {total - excluded:8.1f} s")
    print(f"peak memory of merge, quantize and export: {packing_peak / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
