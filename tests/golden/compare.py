"""Recorded and present outputs of stages beside each other: what differs, and which stage must answer for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.golden.summary import Summary


@dataclass(frozen=True)
class Tolerance:
    """How far numbers may lie apart.

    ``relative`` is counted in a tensor's root mean square, or in a number's own size; ``absolute`` is for numbers
    alone; ``strays`` is the share of a tensor's sampled values that may be anything.
    """

    relative: float
    absolute: float = 0.0
    strays: float = 0.0


_TOLERANCES: tuple[tuple[str, Tolerance], ...] = (
    # Differences of equal things are the noise itself; their bound is a gate's matter.
    (r"\S+ (float-graph|verify) .*difference", Tolerance(0, absolute=5e-5)),
    # An error is what is left of two large sums.
    (r"\S+ quantize .*layer_errors", Tolerance(0.05)),
    # Products with 8-bit activations round otherwise from processor to processor; small divergences feel it.
    (r"\S+ verify .*(_kl|recovery|agreement)", Tolerance(0.2, absolute=5e-6)),
    # A weight whose gradient is noise takes a whole step of Adam to either side; sums of all of them hardly move.
    # What was trained is in all that follows of an encoder.
    (r"\S+ train |encoder (?!base)", Tolerance(0.05, strays=0.25)),
    # A value on the border of two codes falls to either; in GPTQ it pulls its row's later ones along. Scales are
    # kept in half precision.
    (r"\S+ (quantize|export|adapt) ", Tolerance(2e-3, strays=0.25)),
    (r"\S+ verify ", Tolerance(2e-3)),
    # A decomposition's small parts are differences of large ones.
    (r"\S+ combine ", Tolerance(1e-3)),
    # Matrix products add up in the processor's order: float32's last bits, many times over.
    (r"", Tolerance(1e-4)),
)
"""The first match counts, of a run, a kind of stage and a path of its summary with spaces between."""

_DRAWN = re.compile(r"encoder .*fingerprint")
"""Digests of a new head's weights, which torch draws with other last bits on another processor."""


@dataclass(frozen=True)
class Output:
    """One stage's output: its version, what it made, and the stages that it read."""

    kind: str
    version: int
    made: Summary
    reads: tuple[str, ...] = field(default=())


def differences(where: str, recorded: Summary, present: Summary) -> Iterator[str]:
    """One line for whatever differs by more than its tolerance; ``where`` is a run and a kind of stage."""
    for path in sorted(recorded.keys() | present.keys()):
        if _DRAWN.match(f"{where} {path}"):
            continue
        if path not in present:
            yield f"{path}: is gone"
        elif path not in recorded:
            yield f"{path}: is new"
        else:
            tolerance = next(
                t for pattern, t in _TOLERANCES if re.match(pattern, f"{where} {path}")
            )
            yield from (
                f"{path}: {line}" for line in _apart(recorded[path], present[path], tolerance)
            )


def _apart(was: Any, now: Any, tolerance: Tolerance) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        yield from _tensors_apart(was, now, tolerance)
    elif isinstance(was, float) and isinstance(now, float):
        if abs(was - now) > tolerance.absolute + tolerance.relative * abs(was):
            yield f"is {now}, was {was}"
    elif was != now or type(was) is not type(now):
        yield f"is {now!r}, was {was!r}"


def _tensors_apart(was: dict[str, Any], now: dict[str, Any], tolerance: Tolerance) -> Iterator[str]:
    if was["kind"] != now["kind"] or was.keys() != now.keys():
        yield f"is {now['kind']}, was {was['kind']}"
        return
    if "rms" not in was:
        return
    bound = tolerance.relative * was["rms"]
    for key in ("mean", "rms"):
        if abs(was[key] - now[key]) > bound:
            yield f"{key} is {now[key]}, was {was[key]}"
    pairs = list(zip(was["values"], now["values"], strict=True))
    far = [(a, b) for a, b in pairs if abs(a - b) > bound]
    if len(far) > tolerance.strays * len(pairs):
        yield f"{len(far)} of {len(pairs)} sampled values differ, as {far[0][1]} for {far[0][0]}"


def complaints(
    run: str, recorded: Mapping[str, Output], present: Mapping[str, Output], shown: int = 6
) -> list[str]:
    """What has to be done about the stages of a run, one paragraph each; empty where all is as recorded.

    A change that follows from an earlier stage's is not held against the later one: its key contains the earlier
    version, so that nothing old is reused.
    """
    told: list[str] = []
    changed = {
        name: list(differences(f"{run} {output.kind}", recorded[name].made, output.made))
        for name, output in present.items()
        if name in recorded
    }
    for name, output in present.items():
        if name not in recorded:
            told.append(f"{name}: has no recorded output")
            continue
        was = recorded[name].version
        if output.version != was:
            told.append(
                f"{name}: was recorded at version {was} of {output.kind}, which is at {output.version} now"
            )
        elif changed[name] and not any(
            _moved(source, recorded, present, changed) for source in output.reads
        ):
            lines = changed[name][:shown]
            more = len(changed[name]) - len(lines)
            told.append(
                "\n  ".join(
                    (
                        f"{name}: its output changed, and the version of {output.kind} is {was} as before",
                        *lines,
                        *([f"and {more} more"] if more else []),
                    )
                )
                + f"\n  If that is meant, raise the version of {output.kind} where its StageSpec is declared."
            )
    told += [
        f"{name}: is recorded, and not built any more" for name in recorded.keys() - present.keys()
    ]
    return told


def _moved(
    name: str,
    recorded: Mapping[str, Output],
    present: Mapping[str, Output],
    changed: Mapping[str, list[str]],
) -> bool:
    """Whether a stage or one before it makes something else than was recorded."""
    if name not in recorded or recorded[name].version != present[name].version or changed[name]:
        return True
    return any(_moved(source, recorded, present, changed) for source in present[name].reads)
