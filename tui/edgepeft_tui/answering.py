"""A bundle, or the base it began as, that answers in a process of its own: JSON lines in, JSON lines out.

In: ``{"messages": [...]}``. Out: ``{"ready": {...}}`` once loaded, then for each question ``{"piece": text}`` as
it comes and ``{"done": {...}}``, or ``{"error": text}``. The process ends with its standard input, or is killed
to stop an answer; memory comes back either way.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from edgepeft.errors import EdgepeftError

BASE_OF = "base-of:"
"""In front of a bundle's path: not the bundle answers, but its base without adapter."""


def say(**fields: Any) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def trained_system(bundle: Path) -> str | None:
    """The system message of the rows that a bundle was trained on, where its run is still around it."""
    from edgepeft.comparison import recipe_of
    from edgepeft.matrix import cells_of

    bundle = bundle.resolve()
    with contextlib.suppress(EdgepeftError, StopIteration, ValueError):
        run = next(folder for folder in bundle.parents if (folder / "run.json").is_file())
        name = bundle.relative_to(run / "bundles").as_posix()
        recipe = recipe_of(run)
        if recipe.recipe.matrix:
            recipe = next(cell.recipe for cell in cells_of(recipe) if cell.name == name)
        return recipe.recipe.data.system
    return None


def load(place: str) -> tuple[Any, dict[str, Any]]:
    """What answers, and what is said of it. Raises EdgepeftError."""
    if place.startswith(BASE_OF):
        from edgepeft.fidelity.bare_base import BareBase

        base = BareBase(Path(place.removeprefix(BASE_OF)))
        return base, {"target": "no adapter, float32", "base": base.name, "warning": None}
    from edgepeft.runtime import Runtime

    runtime = Runtime(Path(place))
    opened = runtime.bundle
    return runtime, {
        "target": opened.target,
        "base": opened.base,
        "warning": opened.warning,
    }


def main(place: str) -> int:
    """Load what ``place`` names and answer until standard input ends; 1 if it can't be loaded."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    began = time.perf_counter()
    try:
        runtime, about = load(place)
    except EdgepeftError as error:
        say(error=str(error))
        return 1
    system = trained_system(Path(place.removeprefix(BASE_OF)))
    say(ready={**about, "system": system, "seconds": round(time.perf_counter() - began, 2)})
    for line in sys.stdin:
        try:
            stream = runtime.stream(json.loads(line)["messages"])
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
        except EdgepeftError as error:
            say(error=str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
