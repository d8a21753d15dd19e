"""A bundle, or the base it began as, that answers in a process of its own: JSON lines in, JSON lines out.

In: ``{"messages": [...]}``, with ``"adapter"`` for a bundle that has several and ``"sampling"`` for fields of
SamplingParams that are not the defaults, or ``{"text": ...}`` for an encoder; ``{"forget": true}`` before what
has nothing to do with what was asked so far.
Out: ``{"ready": {...}}`` once loaded, then for each question ``{"piece": text}`` as it comes and
``{"done": {...}}``, ``{"reading": {...}}`` from an encoder, or ``{"error": text}``. The process ends with its
standard input, or is killed to stop an answer; memory comes back either way.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgepeft.errors import EdgepeftError, InputError
from edgepeft_tui.speaker import BASE_OF

if TYPE_CHECKING:
    from edgepeft.runtime import Bundle

VECTOR_HEAD = 8
"""Numbers of a vector that are shown."""


class Answerer(Protocol):
    """What is loaded and answers."""

    def about(self) -> dict[str, Any]:
        """What is said of it once it is loaded."""

    def answer(self, question: Mapping[str, Any]) -> None:
        """Say what it makes of a question. Raises EdgepeftError."""

    def forget(self) -> None:
        """Drop what is kept of earlier questions."""


class Talker:
    """A model that generates: a bundle, with any of its adapters, or the bare base of one."""

    def __init__(self, runtime: Any, about: dict[str, Any]) -> None:
        self._runtime = runtime
        self._about = about

    def about(self) -> dict[str, Any]:
        """Task, base and target."""
        return {"task": "text-generation", **self._about}

    def answer(self, question: Mapping[str, Any]) -> None:
        """Stream an answer."""
        # The base, and a bundle whose adapter is merged, know of no adapters.
        chosen = {"adapter": question["adapter"]} if question.get("adapter") else {}
        sampling = question.get("sampling", {})
        stream = self._runtime.stream(question["messages"], **sampling, **chosen)
        for piece in stream:
            say(piece=piece)
        done = stream.completion()
        say(
            done={
                "tokens": len(done.ids),
                "tokens_per_second": round(done.tokens_per_second, 1),
                "prompt_tokens": len(done.prompt_ids),
                "first_seconds": round(done.prefill_seconds, 3),
                "finish_reason": done.finish_reason,
            }
        )

    def forget(self) -> None:
        """A conversation comes whole with each question."""


class Reader:
    """An encoder: labels, labelled words, or vectors and how like each other they are."""

    def __init__(self, bundle: Bundle, provider: str | None) -> None:
        from edgepeft.runtime import Encoder

        self._bundle = bundle
        self._encoder = Encoder(bundle, provider=provider)
        self._vectors: list[tuple[str, Any]] = []

    def about(self) -> dict[str, Any]:
        """Task, base and target."""
        return {"task": self._bundle.task, **_facts(self._bundle)}

    def answer(self, question: Mapping[str, Any]) -> None:
        """Read a text; a vector is held against those of the texts before."""
        from edgepeft.runtime.readings import left_out, reading

        text = str(question["text"])
        began = time.perf_counter()
        found = reading(self._encoder, text)
        seconds = time.perf_counter() - began
        if "vector" in found:
            found = self._compared(text, found["vector"])
        lost = self._encoder.tokens_lost(text)
        if lost:
            found["warning"] = left_out(self._bundle, lost)
        say(reading={**found, "seconds": round(seconds, 4)})

    def forget(self) -> None:
        """Hold the next vector against none."""
        self._vectors.clear()

    def _compared(self, text: str, numbers: list[float]) -> dict[str, Any]:
        import numpy as np

        vector = np.asarray(numbers)
        length = float(np.linalg.norm(vector))
        similar = [
            [earlier, float(vector @ other) / max(length * float(np.linalg.norm(other)), 1e-12)]
            for earlier, other in self._vectors
        ]
        self._vectors.append((text, vector))
        head = [round(float(number), 6) for number in vector[:VECTOR_HEAD]]
        return {"head": head, "dimensions": len(vector), "length": length, "similar": similar}


def say(**fields: Any) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def trained_system(bundle: Path) -> str | None:
    """The system message of the rows that a bundle was trained on, where its run is still around it."""
    from edgepeft.config.matrix import cells_of
    from edgepeft.config.run_recipe import recipe_of

    bundle = bundle.resolve()
    with contextlib.suppress(EdgepeftError, StopIteration, ValueError):
        run = next(folder for folder in bundle.parents if (folder / "run.json").is_file())
        name = bundle.relative_to(run / "bundles").as_posix()
        recipe = recipe_of(run)
        if recipe.recipe.matrix:
            recipe = next(cell.recipe for cell in cells_of(recipe) if cell.name == name)
        return recipe.recipe.data.system
    return None


def _facts(bundle: Bundle) -> dict[str, Any]:
    return {"target": bundle.target, "base": bundle.base, "warning": bundle.warning}


def _adapters(bundle: Bundle) -> list[dict[str, Any]]:
    """The adapters of a hot-swap bundle, with what is known of each; one that can't be opened says why."""
    from edgepeft.runtime.adapters import adapter_names, open_adapter

    found = []
    for name in adapter_names(bundle):
        try:
            adapter = open_adapter(bundle, name)
        except InputError as error:
            found.append({"name": name, "rank": None, "gates": None, "warning": str(error)})
            continue
        gates = None if adapter.gates is None else list(adapter.gates) or "passed"
        facts: dict[str, Any] = {"name": name, "rank": adapter.facts.get("rank"), "gates": gates}
        found.append({**facts, "warning": adapter.warning})
    return found


def load(place: str, provider: str | None = None) -> Answerer:
    """What answers, as ``edgepeft run``, with ``--provider``, would load it. Raises EdgepeftError."""
    if place.startswith(BASE_OF):
        from edgepeft.evaluation.bare_base import BareBase

        base = BareBase(Path(place.removeprefix(BASE_OF)))
        about = {"target": "no adapter, float32", "base": base.name, "warning": None}
        return Talker(base, {**about, "adapters": None})
    from edgepeft.models.tasks import GENERATION
    from edgepeft.runtime import Bundle, Runtime
    from edgepeft.runtime.slots import takes_adapters

    bundle = Bundle.open(Path(place))
    if bundle.task != GENERATION:
        return Reader(bundle, provider)
    adapters = _adapters(bundle) if takes_adapters(bundle) else None
    return Talker(Runtime(bundle, provider=provider), {**_facts(bundle), "adapters": adapters})


def main(place: str, provider: str | None = None) -> int:
    """Load what ``place`` names and answer until standard input ends; 1 if it can't be loaded."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    began = time.perf_counter()
    try:
        answerer = load(place, provider)
    except EdgepeftError as error:
        say(error=str(error))
        return 1
    system = trained_system(Path(place.removeprefix(BASE_OF)))
    seconds = round(time.perf_counter() - began, 2)
    say(ready={"adapters": None, **answerer.about(), "system": system, "seconds": seconds})
    for line in sys.stdin:
        try:
            question = json.loads(line)
            if question.get("forget"):
                answerer.forget()
            else:
                answerer.answer(question)
        except EdgepeftError as error:
            say(error=str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
