"""Where a bundle is run when it is measured, and what can be said of it afterwards.

The provider it was built for runs it where there is one with real hardware behind it. Elsewhere the CPU runs
the same graph, which proves the graph and not the provider. A software adapter lies between: it executes the
provider's own kernels, much too slowly for every measure, so it is held against the CPU on a few tokens.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepeft.errors import EdgepeftError, MissingError
from edgepeft.runtime.devices import CPU, find_adapter

if TYPE_CHECKING:
    from edgepeft.runtime.bundle import Bundle

MAX_DIFFERENCE = 1e-3
"""Largest difference in a logit between a software adapter and the CPU, both at accuracy level 0."""

_PROMPT, _STEPS = 12, 3
"""Tokens read at once and tokens then decoded one by one: a software adapter takes seconds for each."""


@dataclass(frozen=True)
class Execution:
    """Who runs the graph. ``provider`` does the measuring; ``checked`` is a software adapter's name, and
    ``missing`` says why the bundle's own provider has no part in it.
    """

    wanted: str
    provider: str
    adapter: str | None = None
    checked: str | None = None
    missing: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON form, as it enters the verify stage's settings."""
        return asdict(self)


@dataclass(frozen=True)
class Agreement:
    """A software adapter beside the CPU: positions compared and the largest difference in a logit."""

    positions: int
    max_difference: float


def choose_execution(provider: str, io_dtype: str, fallback: str = CPU) -> Execution:
    """Who can run a bundle built for ``provider`` on this machine."""
    if provider == fallback:
        return Execution(provider, provider)
    try:
        adapter = find_adapter(provider)
    except MissingError as error:
        return Execution(provider, fallback, missing=str(error))
    if not adapter.software:
        return Execution(provider, provider, adapter=adapter.name)
    if io_dtype != "fp32":
        return Execution(
            provider, fallback, missing=f"{adapter.name} is software without half precision"
        )
    return Execution(provider, fallback, checked=adapter.name)


def statement(execution: Execution, agreement: Agreement | None) -> str:
    """One line on what was executed, for report and card."""
    short = execution.wanted.removesuffix("ExecutionProvider")
    if execution.provider == execution.wanted:
        return f"executed on {execution.wanted}" + (
            f" ({execution.adapter})" if execution.adapter else ""
        )
    if agreement is not None:
        return (
            f"executed on {execution.wanted} ({execution.checked}): {agreement.positions} positions within "
            f"{agreement.max_difference:.1e} of {execution.provider}, which took the other measures"
        )
    return f"graph verified on {execution.provider}, {short} not executed"


def check_software(bundle: Bundle, prompt: list[int], scratch: Path) -> Agreement:
    """Run a software adapter and the CPU side by side on the beginning of ``prompt``, token ids.

    Both run the bundle's graph at accuracy level 0: at 4 each rounds activations in its own way. Raises
    EdgepeftError where a token or a logit differs.
    """
    import numpy as np

    from edgepeft.evaluation.graph_variants import without_accuracy_level
    from edgepeft.runtime.decoder_session import GraphSession

    subject = without_accuracy_level(bundle, scratch) or bundle
    ids = prompt[:_PROMPT]
    device = GraphSession(subject, providers=[bundle.provider])
    cpu = GraphSession(subject, providers=[CPU])
    differences = np.abs(device.logits(ids) - cpu.logits(ids)).max(axis=-1)
    found = agreed(bundle, len(ids), float(differences.max()), "a logit")
    answers = [session.greedy(ids, _STEPS, ()) for session in (device, cpu)]
    if answers[0] != answers[1]:
        raise EdgepeftError(
            f"{bundle.model_file}: {bundle.provider} decodes other tokens than the CPU"
        )
    return Agreement(found.positions + _STEPS, found.max_difference)


def agreed(bundle: Bundle, positions: int, largest: float, noun: str) -> Agreement:
    """What a comparison with the CPU found, the ``largest`` difference in any ``noun``.

    Raises EdgepeftError where it is too large.
    """
    # Written this way round, outputs that are not a number don't pass.
    if not largest <= MAX_DIFFERENCE:
        raise EdgepeftError(
            f"{bundle.model_file}: {bundle.provider} differs from the CPU by {largest:.3g} in {noun}, more than "
            f"{MAX_DIFFERENCE:g}"
        )
    return Agreement(positions, largest)
