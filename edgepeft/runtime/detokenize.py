"""From an answer's tokens to the pieces of text that a client sees."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence

from edgepeft.data.prompt import Prompter
from edgepeft.runtime.answer import FinishReason, Progress, Said
from edgepeft.runtime.stopping import StopStrings

# A step of a small model throws everything out of the processor's caches, so that spelling out one
# token costs as much as spelling out several: text is put together this often, not oftener.
_PIECE_SECONDS = 0.03
_SILENT_SECONDS = 1.0
"""After so long without text an empty piece comes, so that whoever waits can leave."""


def spelled(
    tokens: Generator[Said, None, None],
    progress: Progress,
    prompter: Prompter,
    stop: Sequence[str],
) -> Generator[str, None, None]:
    """The text of an answer as its ``tokens`` come, which end at a stop token or by themselves; an empty piece
    where there is none to show for a while.

    The answer ends before any of the strings ``stop``. ``progress`` is kept up to date, and ``tokens`` is closed
    however this ends.
    """
    stopper, push, clock = StopStrings(stop), prompter.stream(), time.perf_counter
    pause = 0.0 if stopper.active else _PIECE_SECONDS
    reason: FinishReason = "length"
    pending: list[Said] = []

    def spell() -> str:
        ids = [said.id for said in pending]
        progress.ids.extend(ids)
        progress.logprobs.extend(said.logprob for said in pending if said.logprob is not None)
        piece = stopper.push("".join(map(push, ids)))
        pending.clear()
        progress.parts.append(piece)
        return piece

    progress.started = shown = clock()
    due = 0.0
    with contextlib.closing(tokens):
        for steps, said in enumerate(tokens, 1):
            now = clock()
            progress.reached(steps, now)
            if said.id in prompter.stop_ids:
                reason = "stop"
                break
            pending.append(said)
            if now >= due:
                due = now + pause
                if (piece := spell()) or now - shown > _SILENT_SECONDS:
                    shown = now
                    yield piece
                if stopper.hit:
                    break
    if not stopper.hit:
        rest = spell() + _tail(progress, prompter, stopper)
        if rest:
            yield rest
    progress.finish_reason = "stop" if stopper.hit else reason


def _tail(progress: Progress, prompter: Prompter, stopper: StopStrings) -> str:
    """What the streaming decoder and ``stopper`` still hold: at most a few characters."""
    if stopper.hit:
        return ""
    held = stopper.flush()
    shown = "".join(progress.parts) + held
    whole = prompter.decode(progress.ids)
    rest = whole[len(shown) :] if whole.startswith(shown) else ""
    tail = stopper.push(held + rest) + stopper.flush()
    progress.parts.append(tail)
    return tail
