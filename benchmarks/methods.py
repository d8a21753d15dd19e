"""The adapter methods on one task, each trained for the same steps: quality, parameters, memory, time, bundle.

    python benchmarks/methods.py RUNS [--steps 24] [--rows 40] [METHOD ...]

Every method is a build of its own below RUNS, at the learning rate given for it here; what is built already is
only read, so the table can be filled in pieces. A short training says how fast a method learns, not how far it
gets.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).resolve().parent.parent / "samples" / "recipes" / "home-control.yaml"
SETTINGS: dict[str, list[str]] = {
    "qlora": ["training.learning_rate=1e-3"],
    "lora": ["training.learning_rate=1e-3"],
    "dora": ["training.learning_rate=1e-3"],
    "pissa": ["method.name=lora", "method.options.init_lora_weights=pissa_niter_4",
              "training.learning_rate=3e-4"],
    "adalora": ["training.learning_rate=3e-3"],
    "loha": ["training.learning_rate=3e-3"],
    "lokr": ["training.learning_rate=3e-3"],
    "oft": ["training.learning_rate=1e-3", "method.options.oft_block_size=32"],
    "vera": ["training.learning_rate=1e-2"],
    "ia3": ["training.learning_rate=1e-2"],
    "ln_tuning": ["training.learning_rate=3e-3"],
    "prompt_tuning": ["training.learning_rate=3e-2"],
    "p_tuning": ["training.learning_rate=1e-3"],
    "prefix_tuning": ["training.learning_rate=1e-2", "method.options.init_weights=zero"],
    "bottleneck": ["training.learning_rate=1e-3"],
    "full": ["training.learning_rate=1e-4"],
}  # fmt: skip


def build(method: str, out: Path, steps: int, rows: int) -> None:
    """Build the sample with one method; the recipe's rank and alpha hold where the method has them."""
    changes = [
        f"method={{name: {method}}}",
        *SETTINGS[method],
        f"training.max_steps={steps}",
        "training.eval_rows=0",
        f"data.max_test_rows={rows}",
        "targets=[cpu-int8]",
        "merge.save=false",
        "gates={max_exact_match_drop: null, max_task_kl: null}",
    ]
    command = [sys.executable, "-m", "edgepeft.cli.app", "build", str(RECIPE), "--out", str(out)]
    for change in changes:
        command += ["--set", change]
    subprocess.run([*command, "--progress", "none"], check=True, stdout=subprocess.DEVNULL)


def measured(out: Path) -> dict[str, Any] | None:
    """Figures of a finished build, or None."""
    record = out / "run.json"
    if not record.is_file() or json.loads(record.read_text())["state"] != "done":
        return None
    (train,) = out.glob("stages/train-*/edgepeft.json")
    manifest = json.loads(train.read_text())
    (bundle,) = json.loads(record.read_text())["result"]["bundles"]
    facts, trained = bundle["fidelity"], manifest["result"]
    adapter = sum(f.stat().st_size for f in train.parent.glob("adapter/*.safetensors"))
    return {
        "steps": trained["steps"],
        "parameters": trained["trainable_parameters"],
        "adapter_bytes": adapter,
        "peak_memory_bytes": manifest["peak_memory_bytes"],
        "seconds_per_step": trained["step_seconds"] / trained["steps"],
        "reference_loss": facts["reference_task_loss"],
        "base_loss": facts["base_task_loss"],
        "exact_match": facts["exact_match"],
        "task_kl": facts["task_kl"],
        "generic_kl": facts["generic_kl"],
        "bundle_bytes": bundle["bytes"],
        "tokens_per_second": facts["tokens_per_second"],
        "rows": facts["rows"],
    }


def main() -> None:
    """Build what is named and not there yet, then print the table of all that is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("methods", nargs="*", metavar="METHOD")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--rows", type=int, default=40)
    options = parser.parse_args()
    unknown = sorted(set(options.methods) - set(SETTINGS))
    if unknown:
        parser.error(f"no settings for {', '.join(unknown)}; there are {', '.join(SETTINGS)}")
    for method in options.methods:
        if measured(options.runs / method) is None:
            build(method, options.runs / method, options.steps, options.rows)
    columns = "method trainable adapter memory s/step loss exact-match generic-KL bundle tok/s"
    print(f"| {' | '.join(columns.split())} |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for method in SETTINGS:
        found = measured(options.runs / method)
        if found is None:
            continue
        print(
            f"| {method} | {found['parameters'] / 1e6:.3f} M | {found['adapter_bytes'] / 1e6:.1f} MB "
            f"| {found['peak_memory_bytes'] / 1e9:.2f} GB | {found['seconds_per_step']:.2f} "
            f"| {found['base_loss']:.2f} to {found['reference_loss']:.3f} | {found['exact_match']:.3f} "
            f"| {found['generic_kl']:.4f} | {found['bundle_bytes'] / 1e6:.1f} MB "
            f"| {found['tokens_per_second']:.0f} |"
        )


if __name__ == "__main__":
    main()
