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
import edgepeft_tui.widgets.machine
from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.draft import Draft
from edgepeft_tui.raw_recipe import STEPS
from edgepeft_tui.speaker import Speaker
from edgepeft_tui.widgets import conversation
from edgepeft_tui.widgets.conversation import Conversation
from edgepeft_tui.widgets.field_row import FieldRow
from tests.tui import replay
from tests.tui.drive import opened, text_of, until
from tests.tui.record import recorded

PLACES = (
    *("home", "runs", "targets", "doctor", "help", "run", "result", "compare", "layers"),
    *("chat", "reading", "hot-swap"),
    *(f"step-{step.split()[0].lower()}" for step in STEPS),
)
MORE_PLACES = (
    *("picker", "question", "choice", "errors", "existing", "palette", "jump"),
    *("chat-options", "chat-save"),
)
"""Windows and states that stand over a place, or that a place has besides the usual one."""

MODEL = recorded("model")
PLAN = {
    **recorded("plan"),
    # A tiny model's plan has nothing to note, and is refused no target.
    "notes": ["a note of the plan"],
    "choices": [
        choice
        | (
            {"refused": "merge.base: set it to dequantized"}
            if choice["target"] == "cpu-nf4"
            else {}
        )
        for choice in recorded("plan")["choices"]
    ],
}
MODELS = [
    {"name": "smol", "hub": "Org/smol", "cached": [{}]},
    {"name": "Org/tiny", "hub": "Org/tiny", "cached": [{}]},
]
DATA = recorded("data")
# A row in which something looks like markup.
DATA["rows"][0]["pieces"][0]["text"] = "<|im_start|>user\nlamp on [now]\n"
ADAPTERS = [
    {"name": "desk", "rank": 16, "gates": "passed", "warning": None},
    {"name": "support", "rank": 8, "gates": None, "warning": None},
]
"""What a bundle with hot-swap adapters says of them; the recorded one has its adapter merged in."""
READY, _, DONE = recorded("chat")
READY = {**READY["ready"], "system": "Answer briefly."}
SAID: dict[str, list[dict[str, Any]]] = {
    "chat": [
        {"ready": {**READY, "adapters": ADAPTERS}},
        # A tiny model says nothing that is worth a look.
        {"piece": "A first line\n[and] a second one that is much too long for a narrow column."},
        DONE,
    ],
    "reading": [
        # Those of an encoder would need a second build.
        {"ready": {**READY, "task": "text-classification"}},
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

DOCTOR = recorded("doctor")
# What estimates of a tiny model need is no machine's memory.
HARDWARE = {**DOCTOR["hardware"], "memory_bytes": 32_000_000_000}
# One library that is there and one that is not, for either sign.
VERSIONS = {"edgepeft": "1", "torch": None}
# Which extras are complete here is this machine's own.
PROVIDERS = {name: {"complete": name != "cuda"} for name in ("cpu", "cuda", "webgpu")}
MACHINE = {"versions": VERSIONS, "hardware": HARDWARE, "extras": PROVIDERS, "problems": []}


ADVICE = {
    "lost": [{"adapter": None, "rows": 1, "first": ["test.jsonl line 1"], "file": "lost.jsonl"}],
    "try": [
        {
            "what": "quantize.algorithm: gptq",
            "why": "rtn rounds each weight by itself; gptq looks at calibration data",
            "cost": "a longer build, no larger bundle",
        }
    ],
}
"""What a build advises for a bundle that misses a gate; the recorded one passed."""


async def _answer(*arguments: str, folder: Path, text: str = "") -> Any:
    answers = {"inspect": MODEL, "plan": PLAN, "data": DATA, "doctor": MACHINE, "models": MODELS}
    return answers[arguments[0]]


def hold_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that never changes, and a run with a past."""
    for module in (
        edgepeft_tui.screens.wizard,
        edgepeft_tui.steps.data,
        edgepeft_tui.steps.model,
        edgepeft_tui.widgets.machine,
    ):
        monkeypatch.setattr(module, "ask", _answer)
    monkeypatch.setattr(edgepeft.utils.environment, "hardware", lambda: HARDWARE)
    monkeypatch.setattr(edgepeft.utils.environment, "versions", lambda: VERSIONS)
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
    path = run.resolve() / "bundles" / "cpu-int4"
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "fidelity.json").write_text(json.dumps(recorded("fidelity")))
    rounded = run / "stages" / "quantize-int4-0123456789ab"
    rounded.mkdir(parents=True)
    (rounded / "edgepeft.json").write_text(json.dumps(recorded("rounding")))
    trained = run / "stages" / "train-0123456789ab"
    trained.mkdir()
    (trained / "history.json").write_text(json.dumps(_history(rank / 8)))
    (run / "comparison.json").write_text(json.dumps(recorded("comparison")))
    record = recorded("record")
    record |= {"name": run.name, "started": f"2026-01-01T10:{rank:02}:00+00:00"}
    [bundle] = record["result"]["bundles"]
    bundle["path"] = str(path)
    # An answer in which something looks like markup.
    bundle["fidelity"]["wrong"][0] |= {"wanted": "[on]", "got": "off"}
    if rank != 8:
        # The same run, had it missed a gate.
        record["state"] = "gate missed"
        bundle["gates"] = ["exact match 0.98 is below 0.99"]
        bundle["fidelity"] |= {"task_kl": 0.0005, "top1_agreement": 0.97}
        bundle["advice"] = ADVICE
    (run / "run.json").write_text(json.dumps(record))
    (run / "recipe.resolved.yaml").write_text(f"model: tiny\nmethod: {{rank: {rank}}}\n")
    events = recorded("events")
    events.append({**events[-1], "event": "warning", "text": "a warning [of a stage]"})
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def _history(slower: float) -> list[dict[str, Any]]:
    """What the recorded training has left of itself, as its trainer writes it, had it learned ``slower``."""
    told = [event for event in recorded("events") if "loss" in event.get("metrics", ())]
    first = told[0]["metrics"]["loss"]
    return [
        {"step": e["step"], **e["metrics"], "loss": first + (e["metrics"]["loss"] - first) / slower}
        for e in told
    ]


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
        case "chat-options" | "chat-save":
            await _go(app, pilot, "chat")
            await until(pilot, lambda: "tokens/s" in text_of(app))
            await pilot.press("f4" if place == "chat-options" else "ctrl+s")
            await until(pilot, lambda: bool(app.screen.query(FieldRow)))
            if place == "chat-options":
                await pilot.press("tab", "x")
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
