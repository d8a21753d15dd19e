"""Whether a run and its bundles are what was wanted, in a sign and in words, the same on every screen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgepeft.evaluation.gates import learned_little
from edgepeft_tui.plain_text import plain, plain_line
from edgepeft_tui.words import HANG, mark

_STATES = {
    "interrupted": "stopped, can be resumed",
    "killed": "killed, can be resumed",
    "stopping": "stopping",
}


def state_words(state: str) -> str:
    """A run's state as people say it."""
    return _STATES.get(state, state)


def bundles_of(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The bundles that a run has built."""
    result = run.get("result")
    return list(result.get("bundles", [])) if isinstance(result, dict) else []


def bundle_name(bundle: Mapping[str, Any]) -> str:
    """What a bundle is called among those of its run: its cell of a matrix, else its target."""
    return str(bundle.get("cell") or bundle["target"])


def run_verdict(run: Mapping[str, Any]) -> tuple[str, str]:
    """The mark's state and the words for a run in a list; ``waits`` is what it waits for where it is stopping."""
    state = str(run.get("state", ""))
    if state == "stopping":
        return state, f"stopping: {run.get('waits') or 'waits for its process to end'}"
    little = any(learned_little(bundle.get("fidelity") or {}) for bundle in bundles_of(run))
    if little and state in ("done", "gate missed"):
        return "warning" if state == "done" else state, f"{state}, learned little"
    return state, state_words(state)


def bundle_lines(bundle: Mapping[str, Any]) -> Iterable[str]:
    """What the result says of a bundle, as markup: its gates, what it has learned, the adapters in it."""
    name, gates = plain_line(bundle_name(bundle)), bundle["gates"]
    little = learned_little(bundle["fidelity"] or {})
    if gates == "passed":
        # Faithful to a model that has learned nothing is no success.
        yield f"{mark('warning' if little else 'passed')} [b]{name}[/b] passed its gates"
    elif gates is None:
        yield f"{mark('open')} [b]{name}[/b] was not measured"
    else:
        yield f"{mark('missed')} [b]{name}[/b] failed its gates:"
        listed = [gates] if isinstance(gates, str) else gates
        yield from (f"  {HANG}{plain_line(gate)}" for gate in listed)
        yield "  [$muted]l shows the quantization error of each layer[/]"
    for warning in bundle.get("warnings", ()):
        # What the build itself has said of that is the same again.
        if not little or little not in warning:
            yield f"  {mark('warning')} {HANG}{plain_line(warning)}"
    if little:
        yield f"  {mark('warning')} {HANG}learned little: {plain_line(little)}"
    elif gates == "passed":
        yield "  [$muted]its answers match the trained model's, within the gates[/]"
    for adapter in bundle.get("adapters", ()):
        yield f"  {_adapter(adapter)}"


def _adapter(adapter: Mapping[str, Any]) -> str:
    name, gates = plain(adapter["name"]), adapter["gates"]
    little = learned_little(adapter.get("fidelity") or {})
    if gates is None:
        return f"{mark('open')} adapter {name} was not measured"
    if gates != "passed":
        return f"{mark('missed')} adapter {name} failed its gates"
    if little:
        return (
            f"{mark('warning')} {HANG}adapter {name} passed its gates, but learned little: {little}"
        )
    return f"{mark('passed')} adapter {name} passed its gates"
