"""Records what the wizard is shown in pictures: what the real commands say of a tiny model, and a run's files.

``python -m tests.tui.record`` writes ``recorded/*.json`` anew. What changes from run to run (times, paths,
hashes, versions, memory, the machine) is replaced by stand-ins; the rest is as a build left it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from edgepeft_tui.asking import PYTHON, ask
from tests.command import edgepeft, write_recipe
from tests.tiny import write_tiny_data, write_tiny_model

KEPT = Path(__file__).parent / "recorded"
PROJECT = "/project"
"""Stands for the folder that everything lies in."""
STARTED = "2026-01-01T10:00:00+00:00"
BEGAN = 1767261600.0
"""The same as a time of an event."""
HASH = "0123456789abcdef" * 4
PID = 1 << 22
"""No process has it."""
QUESTION = "What is the colour of snow?"
STAND_INS: dict[str, Any] = {
    "started": STARTED,
    "ended": STARTED,
    "created": STARTED,
    "pid": PID,
    "edgepeft": "1",
    "system": "Linux x86_64, Python 3.11",
    "processor": "A processor",
    "cores": 8,
    "threads": 8,
    "instructions": ["avx2"],
    "physical_cores": 8,
    "cpu_quota": None,
    "memory_bytes": 288_000_000,
    "free_memory_bytes": 16_000_000_000,
    "free_disk_bytes": 50_000_000_000,
    "gpus": [],
    "peak_memory_bytes": 2_900_000_000,
    "tokens_per_second": 97.0,
}
"""By key, where a value is there at all; keys that end in ``seconds`` have 2.0."""


def build(folder: Path, model: Path) -> Path:
    """A finished run of a tiny model in ``folder``, compared two ways."""
    recipe = write_recipe(
        folder / "small.yaml",
        model,
        write_tiny_data(folder),
        training={"max_steps": 20, "batch_size": 2, "learning_rate": 0.01},
        targets=["cpu-int4"],
        gates={"max_exact_match_drop": 1, "max_task_kl": 100},
    )
    run = folder / "runs/small"
    built = edgepeft("build", recipe, "--out", run, cwd=folder)
    assert built.returncode == 0, built.stderr
    compared = edgepeft("compare", run, "--vary", "quantize.head=int4,int8", cwd=folder)
    assert compared.returncode == 0, compared.stderr
    return run


def observed(folder: Path, model: Path) -> dict[str, Any]:
    """What commands say of the project that ``build`` made, asked as the wizard asks, and what its run holds."""
    run = folder / "runs/small"
    recipe = (folder / "small.yaml").read_text()
    rounded = min(
        run.glob("stages/quantize-*/edgepeft.json"), key=lambda path: path.stat().st_mtime
    )
    bundle = run / "bundles/cpu-int4"
    doctor = asyncio.run(ask("doctor", folder=folder))
    return {
        "model": asyncio.run(ask("inspect", str(model), folder=folder)),
        "plan": asyncio.run(ask("plan", "-", "--out", "runs/next", folder=folder, text=recipe)),
        "data": asyncio.run(ask("data", "-", "--rows", "3", folder=folder, text=recipe)),
        # What is missing or wrong here is this machine's own.
        "doctor": {key: doctor[key] for key in ("hardware", "versions")},
        "chat": _chat(bundle),
        "record": json.loads((run / "run.json").read_text()),
        "events": [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()],
        "comparison": json.loads((run / "comparison.json").read_text()),
        "fidelity": json.loads((bundle / "fidelity.json").read_text()),
        "rounding": json.loads(rounded.read_text()),
    }


def _chat(bundle: Path) -> list[Any]:
    """What an answering process says to one question."""
    asked = json.dumps({"messages": [{"role": "user", "content": QUESTION}]}) + "\n"
    done = subprocess.run(
        [*PYTHON, "edgepeft_tui.answering", str(bundle)],
        input=asked,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def scrubbed(value: Any, paths: dict[str, str], key: str = "") -> Any:
    """The value with stand-ins for what changes from run to run; ``paths`` are folders and their stand-ins."""
    if key == "versions":
        return dict.fromkeys(value, "1")
    if value is None:
        return None
    if key in STAND_INS and not isinstance(value, dict):
        return STAND_INS[key]
    if key.endswith("seconds") and isinstance(value, int | float):
        return 2.0
    match value:
        case dict():
            return {_named(k): scrubbed(one, paths, k) for k, one in value.items()}
        case list():
            return [scrubbed(one, paths) for one in value]
        case float():
            # Last digits are the processor's.
            return float(f"{value:.3g}")
        case str():
            for path, stand_in in paths.items():
                value = value.replace(path, stand_in)
            return _named(value)
    return value


def _named(text: str) -> str:
    """Hashes give way to one of their length."""
    return re.sub(r"\b[0-9a-f]{12,64}\b", lambda found: HASH[: len(found[0])], text)


def timed(events: list[Any]) -> list[Any]:
    """Events a second apart."""
    return [{**event, "time": BEGAN + second} for second, event in enumerate(events)]


def shape(value: Any) -> Any:
    """Names and types: of a list those of all its entries together, of events by their kind."""
    match value:
        case dict():
            return {_named(key): shape(one) for key, one in value.items()}
        case list():
            return _merged([shape(one) for one in value])
        case bool() | str() | None:
            return type(value).__name__
    return "number"


def _merged(shapes: list[Any]) -> Any:
    """The shape of a list's entries: dictionaries key by key, the others side by side."""
    keys = {key: None for one in shapes if isinstance(one, dict) for key in one}
    found = [one for one in shapes if isinstance(one, dict)]
    joined = {key: _merged([one[key] for one in found if key in one]) for key in keys}
    return [joined, *sorted({str(one) for one in shapes if not isinstance(one, dict)})]


def recorded(name: str) -> Any:
    """What was recorded under a name."""
    return json.loads((KEPT / f"{name}.json").read_text(encoding="utf-8"))


def main() -> None:
    """Build, ask, and write what was said."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        os.environ |= {"EDGEPEFT_STATE": f"{made}/state", "XDG_CACHE_HOME": f"{made}/cache"}
        model = write_tiny_model(folder / "tiny", "llama")
        build(folder, model)
        keep(observed(folder, model), folder)


def keep(found: dict[str, Any], folder: Path) -> None:
    """Write what was observed in a folder, each part to a file of its own."""
    KEPT.mkdir(exist_ok=True)
    for name, value in found.items():
        kept = scrubbed(value, {str(folder): PROJECT})
        kept = timed(kept) if name == "events" else kept
        text = json.dumps(kept, indent=1, ensure_ascii=False) + "\n"
        (KEPT / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
