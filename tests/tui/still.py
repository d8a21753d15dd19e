"""The app on a machine that never changes, with two runs that have a past, at every place one can go to."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

import edgepeft.utils.environment
import edgepeft.utils.extras
import edgepeft_tui.screens.wizard
import edgepeft_tui.steps.data
import edgepeft_tui.steps.model
from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.draft import Draft
from edgepeft_tui.raw_recipe import STEPS
from edgepeft_tui.speaker import Speaker
from edgepeft_tui.widgets import conversation
from edgepeft_tui.widgets.conversation import Conversation
from tests.tui import replay
from tests.tui.drive import opened, text_of, until

PLACES = (
    *("home", "runs", "targets", "doctor", "help", "run", "result", "compare", "layers"),
    *("chat", "reading", "hot-swap"),
    *(f"step-{step.split()[0].lower()}" for step in STEPS),
)
MORE_PLACES = ("picker", "question", "choice", "errors", "existing", "palette", "jump")
"""Windows and states that stand over a place, or that a place has besides the usual one."""

MODEL = {
    "kind": "model",
    "architecture": "LlamaForCausalLM",
    "parameters": 134_515_008,
    "layers": 30,
    "dtype": "Q4_1",
    "file_bytes": 98_000_000,
    "tied_embeddings": True,
    "context_length": 8192,
    "licence": "apache-2.0",
    "supported": True,
}
PLAN = {
    "model": MODEL,
    "steps": 80,
    "trainable_parameters": 4_761_600,
    "peak_memory_bytes": 2_662_000_000,
    "free_memory_bytes": 16_000_000_000,
    "training_memory": {
        "libraries": 7e8,
        "weights": 538e6,
        "optimizer": 76e6,
        "activations": 1.3e9,
    },
    "seconds": 640.0,
    "stages": [{"stage": "train", "seconds": 300.0, "reused": False}],
    "disk_bytes": 1_442_000_000,
    "free_disk_bytes": 50_000_000_000,
    "bundles": [{"target": "cpu-int4", "bytes": 96_364_633}],
    "choices": [
        {"target": "cpu-int4", "bytes": 96_364_633, "memory_bytes": 287_800_000, "refused": None},
        {"target": "cpu-nf4", "refused": "merge.base: set it to dequantized"},
    ],
    "notes": ["a note of the plan"],
}
DATA = {
    "files": {
        "train": {
            "rows": 960,
            "format": "jsonl",
            "shape": "prompt",
            "columns": ["prompt", "completion"],
        }
    },
    "rows": [
        {
            "where": "train.jsonl line 1",
            "tokens": 65,
            "pieces": [
                {"text": "<|im_start|>user\nlamp on [now]\n", "learned": False},
                {"text": '{"lamp": "on"}<|im_end|>', "learned": True},
            ],
        }
    ],
    "report": {
        "train_lengths": {"edges": [0, 32, 64], "counts": [3, 957], "median": 60, "longest": 73},
        "test_lengths": None,
        "truncated_share": 0.0,
        "duplicates": 2,
        "overlap": 0,
        "warnings": ["2 of 960 training rows repeat an earlier row"],
    },
}
READY = {
    "base": "tiny",
    "target": "cpu-int4",
    "seconds": 0.4,
    "warning": None,
    "system": "Answer briefly.",
}
ADAPTERS = [
    {"name": "desk", "rank": 16, "gates": "passed", "warning": None},
    {"name": "support", "rank": 8, "gates": None, "warning": None},
]
SAID: dict[str, list[dict[str, Any]]] = {
    "chat": [
        {"ready": {**READY, "task": "text-generation", "adapters": ADAPTERS}},
        {"piece": "A first line\n[and] a second one that is much too long for a narrow column."},
        {
            "done": {
                "tokens": 20,
                "tokens_per_second": 90.0,
                "first_seconds": 0.05,
                "finish_reason": "stop",
            }
        },
    ],
    "reading": [
        {"ready": {**READY, "task": "text-classification", "adapters": None}},
        {
            "reading": {
                "labels": [
                    {"label": "billing", "score": 0.9},
                    {"label": "hardware", "score": 0.1},
                ],
                "seconds": 0.01,
            }
        },
    ],
}
"""What answering processes say, for pictures of a talk: the first line once loaded, the rest to a question."""

HARDWARE = {
    "system": "Linux x86_64, Python 3.11",
    "processor": "A processor",
    "cores": 8,
    "instructions": ["avx2"],
    "memory_bytes": 32_000_000_000,
    "free_memory_bytes": 16_000_000_000,
    "free_disk_bytes": 50_000_000_000,
    "gpus": [],
}


async def _answer(*arguments: str, folder: Path, text: str = "") -> Any:
    return {"inspect": MODEL, "plan": PLAN, "data": DATA}[arguments[0]]


def hold_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that never changes, and a run with a past."""
    for module in (edgepeft_tui.screens.wizard, edgepeft_tui.steps.data, edgepeft_tui.steps.model):
        monkeypatch.setattr(module, "ask", _answer)
    monkeypatch.setattr(edgepeft.utils.environment, "hardware", lambda: HARDWARE)
    monkeypatch.setattr(
        edgepeft.utils.environment, "versions", lambda: {"edgepeft": "1", "torch": None}
    )
    monkeypatch.setattr(edgepeft.utils.extras, "extras", list)
    monkeypatch.setenv("TZ", "UTC")
    replaying = (sys.executable, "-I", "-S", replay.__file__)
    monkeypatch.setattr(conversation, "PYTHON", replaying)
    monkeypatch.setattr(conversation, "megabytes", lambda memory: "92 MB")
    for name, lines in SAID.items():
        says(name, lines)
    for name, rank in (("first", 8), ("second", 16)):
        _write_run(Path("runs") / name, rank)


def says(name: str, lines: Sequence[dict[str, Any]]) -> None:
    """From here on the bundle of that name says this, once loaded and to every question."""
    Path(name).mkdir(exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (Path(name) / replay.FILE).write_text(text, encoding="utf-8")


def _write_run(run: Path, rank: int) -> None:
    fidelity = {
        "exact_match": 0.98,
        "reference_exact_match": 0.995,
        "base_exact_match": 0.0,
        "task_kl": 0.001,
        "generic_kl": 0.086,
        "top1_agreement": 0.999,
        "recovery": 0.999,
        "tokens_per_second": 97.0,
        "wrong": [{"where": "test.jsonl line 3", "wanted": "[on]", "got": "off"}],
    }
    path = run.resolve() / "bundles" / "cpu-int4"
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    errors = [0.012, 0.02, 0.034, 0.051, 0.018, 0.02, 0.027, 0.022]
    (path / "fidelity.json").write_text(json.dumps({"weights": {"layer_errors": errors}}))
    rounded = run / "stages" / "quantize-int4-0123456789ab"
    rounded.mkdir(parents=True)
    facts = {"layer_errors": errors, "algorithm": "gptq", "linear": "int4, blocks of 32"}
    (rounded / "edgepeft.json").write_text(json.dumps({"result": facts}))
    variants = (("int4", 90e6, 0.12), ("int8", 98e6, 0.086), ("float", 140e6, 0.081))
    entries = [
        {
            "values": {"quantize.head": head},
            "bytes": size,
            "gates": "passed",
            "fidelity": {**fidelity, "generic_kl": loss},
        }
        for head, size, loss in variants
    ]
    (run / "comparison.json").write_text(json.dumps({"axes": [], "entries": entries}))
    gates = "passed" if rank == 8 else ["exact match 0.98 is below 0.99"]
    bundle = {"target": "cpu-int4", "path": str(path), "bytes": 98e6, "gates": gates}
    result = {
        "seconds": 640.0,
        "peak_memory_bytes": 2.9e9,
        "bundles": [{**bundle, "fidelity": fidelity}],
    }
    record = {
        "name": run.name,
        "state": "done" if rank == 8 else "gate missed",
        "started": f"2026-01-01T10:{rank:02}:00+00:00",
        "model": "tiny",
        "targets": ["cpu-int4"],
        "result": result,
    }
    (run / "run.json").write_text(json.dumps(record))
    (run / "recipe.resolved.yaml").write_text(f"model: tiny\nmethod: {{rank: {rank}}}\n")
    events: list[dict[str, Any]] = [
        {"event": "planned", "stages": ["base", "train", "merge"]},
        {"event": "reused", "stage": "base"},
        {"event": "started", "stage": "train"},
        *(
            {"event": "progress", "stage": "train", "step": step, "total": 20, "seconds": step}
            | {"metrics": {"loss": 2.0 / step, "learning_rate": 1e-3}}
            for step in range(1, 21)
        ),
        {
            "event": "finished",
            "stage": "train",
            "seconds": 20.0,
            "metrics": {"peak_memory_bytes": 3e9},
        },
        {"event": "warning", "stage": "merge", "text": "a warning [of a stage]"},
    ]
    lines = [
        json.dumps({"time": 1767261600.0 + n, "stage": "build", **e}) for n, e in enumerate(events)
    ]
    (run / "events.jsonl").write_text("\n".join(lines) + "\n")


async def go_to(app: EdgepeftApp, pilot: Pilot[None], place: str) -> None:
    """Bring the app from its first screen to one of the places, as a user would see it."""
    await _go(app, pilot, place)
    await opened(pilot)
    await pilot.pause(0.5)


async def _go(app: EdgepeftApp, pilot: Pilot[None], place: str) -> None:
    run = Path("runs/first").resolve()
    match place:
        case "help":
            app.open_draft(_draft())
            await pilot.pause(0.6)
            await pilot.press("f1")
        case "compare":
            app.open("runs")
            await pilot.pause(0.2)
            await pilot.press("space", "down", "space", "c")
        case "chat" | "reading":
            speaker = Speaker(Path(place).resolve())
            other = Speaker(Path(place).resolve(), "support")
            app.open_chat([speaker, other] if place == "chat" else [speaker])
            await until(pilot, lambda: "loaded in" in text_of(app))
            await until(pilot, lambda: all(one.ready for one in app.screen.query(Conversation)))
            await pilot.press("w", "h", "y", "enter")
        case "hot-swap":
            draft = _draft()
            swaps = {"name": "cpu-int4", "adapters": "hot-swap"}
            draft.put("targets", [swaps, {"name": "desk", "like": "cuda-int4"}])
            draft.put("adapters", [{"name": "support", "path": "../support"}])
            app.open_draft(draft, "Targets")
            # The step gives the focus to its list of devices when that is filled.
            while app.focused is None:
                await pilot.pause(0.2)
            app.screen.query_one("#row-gates--max_task_kl Input").focus()
        case "layers":
            app.open(f"run:{run}")
            await pilot.pause(0.3)
            app.screen.action_layers()  # type: ignore[attr-defined]
        case "run" | "result":
            app.open(f"{place}:{run}")
        case "home":
            pass
        case "question":
            app.open("runs")
            await pilot.pause(0.2)
            await pilot.press("x")
            app.notify("a notice", title="about something", severity="error")
        case "errors" | "existing" | "picker" | "choice":
            await _go_on(app, pilot, place)
        case "palette" | "jump":
            app.open("runs")
            await pilot.pause(0.2)
            await pilot.press("ctrl+p" if place == "palette" else "ctrl+o")
        case _ if place.startswith("step-"):
            name = place.removeprefix("step-")
            step = next(step for step in STEPS if step.lower().startswith(name))
            app.open_draft(_draft(), step)
        case _:
            app.open(place)


async def _go_on(app: EdgepeftApp, pilot: Pilot[None], place: str) -> None:
    """A state of the wizard that takes a few keys more."""
    draft = _draft()
    if place == "errors":
        draft.put("method", {"rank": 0})
        draft.put("data", {"train": "train.jsonl"})
    if place == "existing":
        draft.use_adapter("one")
        draft.add_adapter()
    app.open_draft(draft, "Data" if place == "picker" else "Method")
    await opened(pilot)
    if place == "picker":
        await pilot.press("tab", "enter")
    elif place == "choice":
        app.screen.query_one("#row-method--name Select").focus()
        await pilot.press("enter")


def _draft() -> Draft:
    data = {"train": "train.jsonl", "test": "test.jsonl"}
    return Draft(Path.cwd(), "mine", {"model": "m", "data": data, "targets": ["cpu-int4"]})
