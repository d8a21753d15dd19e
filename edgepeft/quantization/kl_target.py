"""Rounding to a divergence: choose by what is predicted, round, measure, correct the prediction, choose again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepeft.calibration.data import job_calibration
from edgepeft.checkpoints.source import TensorSource
from edgepeft.errors import InputError
from edgepeft.quantization.divergence import Judge
from edgepeft.quantization.format_selection import Formats, Menu, by_kind, open_menu
from edgepeft.quantization.mixed_precision import Choice, reach, total, within
from edgepeft.quantization.packed_weights import QuantizedWeights
from edgepeft.quantization.settings import QuantizeSettings
from edgepeft.stages.job import Job

JUDGED_TOKENS = 2048
ATTEMPTS = 3
_AIM = 0.9
"""Share of a bound that is aimed at: the report measures on other data."""
_CLOSE = 0.8
"""An attempt that comes this close to its bound is not worth another for the bytes it would save."""


@dataclass(frozen=True)
class Attempt:
    """One rounding: how, where its files are, the bytes of its bundle and its divergence by kind of data."""

    choices: dict[str, Choice]
    formats: Formats
    folder: Path
    nbytes: int
    divergence: dict[str, float]


def round_within(
    job: Job[QuantizeSettings],
    weights: TensorSource,
    skeleton: Any,
    round_into: Callable[[Path, Formats], None],
) -> Attempt:
    """The smallest rounding found that keeps ``max_task_kl`` and ``max_generic_kl``.

    ``round_into(folder, formats)`` does the rounding. Raises InputError naming the nearest divergence that can be
    reached where a bound can't be kept.
    """
    menu = open_menu(job, weights, skeleton)
    bounds = {kind: getattr(job.settings.quantize, f"max_{kind}_kl", None) for kind in menu.kinds}
    held_out = by_kind(job_calibration(job, JUDGED_TOKENS, other_end=True))
    judge = Judge(
        skeleton,
        weights,
        {kind: held_out[kind] for kind in menu.kinds},
        eight_bit_inputs=job.settings.eight_bit_inputs,
    )
    attempts: list[Attempt] = []

    def attempt(choices: dict[str, Choice]) -> Attempt:
        folder = job.scratch / f"attempt-{len(attempts) + 1}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        formats = menu.formats(choices)
        round_into(folder, formats)
        measured = judge.divergence(QuantizedWeights.open(folder))
        nbytes = sum(choice.nbytes for choice in choices.values()) + menu.outside
        made = Attempt(
            choices, formats, folder, nbytes, dict(zip(menu.kinds, measured, strict=True))
        )
        attempts.append(made)
        found = ", ".join(f"{kind} KL {value:.4g}" for kind, value in made.divergence.items())
        job.events.message(f"about {nbytes / 1e6:.1f} MB: {found}")
        return made

    ratios = dict.fromkeys(menu.kinds, 1.0)
    while len(attempts) < ATTEMPTS:
        aims = [
            None if bound is None else _AIM * bound / ratios[kind] for kind, bound in bounds.items()
        ]
        choices = reach(menu.options, aims)
        if any(choices == made.choices for made in attempts):
            break
        made = attempt(choices)
        if _keeps(made, bounds) and _near(made, bounds):
            break
        for kind, expected in zip(menu.kinds, total(choices), strict=True):
            ratios[kind] = made.divergence[kind] / expected if expected > 0 else 1.0
    kept = [made for made in attempts if _keeps(made, bounds)]
    if not kept:
        finest = attempt(_finest(menu))
        if not _keeps(finest, bounds):
            raise _out_of_reach(finest, bounds)
        kept = [finest]
    return min(kept, key=lambda made: made.nbytes)


def _finest(menu: Menu) -> dict[str, Choice]:
    return {
        name: min(options, key=lambda one: (menu.price(one), one.nbytes))
        for name, options in menu.options.items()
    }


def _keeps(made: Attempt, bounds: Mapping[str, float | None]) -> bool:
    return within(list(made.divergence.values()), list(bounds.values()))


def _near(made: Attempt, bounds: Mapping[str, float | None]) -> bool:
    return any(
        bound is not None and made.divergence[kind] >= _CLOSE * bound
        for kind, bound in bounds.items()
    )


def _out_of_reach(finest: Attempt, bounds: Mapping[str, float | None]) -> InputError:
    kind, bound = next(
        (kind, bound)
        for kind, bound in bounds.items()
        if bound is not None and finest.divergence[kind] > bound
    )
    return InputError(
        f"quantize.max_{kind}_kl: {bound:g} is out of reach for this target; the nearest is "
        f"{finest.divergence[kind]:.3g}, at the highest precision of every layer"
    )
