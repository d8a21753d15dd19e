"""Adapters fitted together on rows of each one's task, from a recipe or with rows already read.

The base is in memory as for scoring, and wears each adapter while its own rows go through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count

import torch

from edgepeft.checkpoints.base import checkpoint_folder
from edgepeft.combination.combine import module_shapes
from edgepeft.combination.folders import Parts
from edgepeft.combination.methods import MOMENT_BYTES
from edgepeft.combination.regmean import Moments, fit
from edgepeft.combination.scoring import Scorer
from edgepeft.combination.settings import CombineResult, CombineSettings
from edgepeft.combination.stage import adapter_folders
from edgepeft.data.prompt import Prompter
from edgepeft.errors import InputError
from edgepeft.evaluation.probes import Question, task_questions
from edgepeft.merging.lora import LoraFactors
from edgepeft.stages.job import Job


def run(job: Job[CombineSettings]) -> CombineResult:
    """Stage function, as that of ``combination.stage``, with ``rows-0``, ``rows-1`` and so on besides."""
    base, data, how = job.inputs["base"], job.settings.data, job.settings.how
    allow_mismatch = job.settings.allow_base_mismatch
    folders = adapter_folders(job)
    parts = Parts.open(folders, model=checkpoint_folder(base), allow_base_mismatch=allow_mismatch)
    scorer = Scorer(base, parts.adapters, allow_mismatch=allow_mismatch)
    prompter = Prompter.from_folder(base, job.template(data.template), data.control_tokens)
    questions = []
    for index in range(len(folders)):
        file = job.inputs[f"rows-{index}"]
        asked = task_questions(data.read(file).rows, prompter, scorer.context)
        questions.append(asked[: job.settings.rows])
        if not questions[-1]:
            raise InputError(f"{file}: contains no rows with prompt and answer to fit to")
    fitter = Fitter(scorer, parts.factors, questions)
    done, total = count(1), fitter.passes * sum(map(len, questions))
    job.events.progress(0, total)
    fitted = fitter.fit(how.weights, lambda: job.events.progress(next(done), total))
    return CombineResult.model_validate(parts.write(how, fitted, job.out / "adapter"))


class Fitter:
    """RegMean of adapters, each on its own questions, as many modules at a time as moments have room for."""

    def __init__(
        self,
        scorer: Scorer,
        adapters: Sequence[LoraFactors],
        questions: Sequence[Sequence[Question]],
    ) -> None:
        """Raises InputError where two adapters disagree about a module's shape."""
        self._scorer, self._adapters, self._questions = scorer, adapters, questions
        self._parts = _parts(module_shapes(adapters), MOMENT_BYTES // len(adapters))
        self._kept: list[Moments] = []
        self._fits: dict[tuple[float, ...], LoraFactors] = {}

    @property
    def passes(self) -> int:
        """How often a fit reads every question; where that is once, a second fit reads none."""
        return len(self._parts)

    def fit(self, weights: Sequence[float], step: Callable[[], None] = lambda: None) -> LoraFactors:
        """One LoRA with these weights of the tasks; ``step`` is called after each question.

        Raises InputError for a module that the base lacks or makes no use of.
        """
        shares = tuple(weight / max(weights) for weight in weights)
        if shares not in self._fits:
            factors: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
            for modules in self._parts:
                factors |= fit(self._adapters, shares, self._moments(modules, step)).factors
            self._fits[shares] = LoraFactors(factors, 1.0)
        return self._fits[shares]

    def _moments(self, modules: Sequence[str], step: Callable[[], None]) -> list[Moments]:
        """What modules read, with each adapter on its own questions."""
        if self._kept:
            return self._kept
        found: list[Moments] = []
        for own, asked in zip(self._adapters, self._questions, strict=True):
            self._scorer.wear(own)
            found.append(self._scorer.moments(asked, modules, step))
        if len(self._parts) == 1:
            # A search fits again and again, with other weights.
            self._kept = found
        return found


def _parts(shapes: Mapping[str, tuple[int, int]], room: int) -> list[list[str]]:
    """Modules in parts whose moments take at most ``room`` bytes each, or that are of one module."""
    parts: list[list[str]] = []
    left = 0
    for name, (width, _) in shapes.items():
        size = 4 * width**2
        if size > left or not parts:
            parts.append([])
            left = room
        parts[-1].append(name)
        left -= size
    return parts
