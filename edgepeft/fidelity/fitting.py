"""Adapters fitted together on rows of each one's task, from a recipe or with rows already read.

The base is in memory as for scoring, and wears each adapter while its own rows go through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from edgepeft.checkpoints.base import checkpoint_folder
from edgepeft.data.formats import read_data
from edgepeft.data.prompt import Prompter
from edgepeft.errors import InputError
from edgepeft.fidelity.probes import Question, task_questions
from edgepeft.fidelity.task_scores import Scorer
from edgepeft.merging.adapter_files import Parts
from edgepeft.merging.combine import module_shapes
from edgepeft.merging.combine_stage import asked_of, outcome
from edgepeft.merging.factors import LoraFactors
from edgepeft.merging.regression import Moments, fit
from edgepeft.stage import Job


def run(job: Job) -> dict[str, Any]:
    """Stage function, as that of ``merging.combine_stage``, with ``rows-0``, ``rows-1`` and so on besides.

    Settings: ``data`` says how rows are read, ``combine.rows`` how many of each. Result: what was combined.
    """
    base, data = job.inputs["base"], job.settings["data"]
    allow_mismatch = job.settings["merge"]["allow_base_mismatch"]
    folders, how = asked_of(job)
    parts = Parts.open(folders, model=checkpoint_folder(base), allow_base_mismatch=allow_mismatch)
    scorer = Scorer(base, parts.adapters, allow_mismatch=allow_mismatch)
    prompter = Prompter.from_folder(base, job.template(data["template"]))
    questions = []
    for index in range(len(folders)):
        file = job.inputs[f"rows-{index}"]
        rows = read_data(file, data)[: job.settings["combine"]["rows"]]
        questions.append(task_questions(rows, prompter, scorer.context))
        if not questions[-1]:
            raise InputError(f"{file}: has no rows with a prompt and an answer to fit to")
    done, total = count(1), sum(map(len, questions))
    job.events.progress(0, total)
    moments = task_moments(
        scorer, parts.factors, questions, lambda: job.events.progress(next(done), total)
    )
    return outcome(parts.write(how, fit(parts.factors, how.weights, moments), job.out / "adapter"))


def task_moments(
    scorer: Scorer,
    adapters: Sequence[LoraFactors],
    questions: Sequence[Sequence[Question]],
    step: Callable[[], None] = lambda: None,
) -> list[Moments]:
    """What the modules that any adapter changes read, with each adapter on its own questions.

    Raises InputError where two adapters disagree about a module, or the base makes no use of one.
    """
    modules = list(module_shapes(adapters))
    found: list[Moments] = []
    for own, asked in zip(adapters, questions, strict=True):
        scorer.wear(own)
        found.append(scorer.moments(asked, modules, step))
    return found
