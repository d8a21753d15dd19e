"""Combining adapters with each task's score before and after, and with the weights searched for if asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepeft.combination.combine import combine
from edgepeft.combination.fitting import Fitter
from edgepeft.combination.folders import Parts, refuse_filled
from edgepeft.combination.methods import REGMEAN, Combination, check_combination
from edgepeft.combination.scoring import Score, Scorer, TaskRows
from edgepeft.combination.search import METHODS, search
from edgepeft.errors import InputError
from edgepeft.events import Events
from edgepeft.merging.lora import LoraFactors


@dataclass(frozen=True)
class Measuring:
    """What is measured: ``tests`` are the test rows' files by adapter, ``rows`` of each are reported.

    With ``trials`` so many combinations are tried on ``searched`` other rows of each, of ``methods`` (none: the
    quick ones), and the best is taken. What is fitted to rows is fitted to those others as well.
    """

    tests: Mapping[str, Path]
    rows: int
    trials: int = 0
    searched: int = 0
    methods: Sequence[str] = ()


def names_of(folders: Sequence[Path]) -> list[str]:
    """What the adapters are called: their folders' names as given, or their numbers where those are not apart."""
    names = [folder.absolute().name for folder in folders]
    if len(set(names)) < len(names):
        return [str(number) for number in range(1, len(names) + 1)]
    return names


def combine_measured(
    folders: Sequence[Path],
    how: Combination,
    out: Path,
    model: Path,
    measuring: Measuring,
    *,
    allow_base_mismatch: bool = False,
    events: Events,
) -> dict[str, Any]:
    """Combine adapter folders of the base ``model`` into ``out``; what was done, and the scores.

    ``tasks`` has for each adapter its own exact match and loss (``alone``), the result's (``combined``) and the
    share ``kept``, all on rows that no search has seen; ``search`` lists the trials. Raises InputError.
    """
    if not measuring.trials:
        check_combination(how, len(folders), rows=True)
    refuse_filled(out)
    parts = Parts.open(folders, rank=how.rank, model=model, allow_base_mismatch=allow_base_mismatch)
    scorer = Scorer(model, parts.adapters, allow_mismatch=allow_base_mismatch)
    tasks = [
        scorer.read(name, file, rows=measuring.rows, searched=measuring.searched)
        for name, file in measuring.tests.items()
    ]
    methods = (measuring.methods or METHODS) if measuring.trials else [how.method]
    fitter = None
    if REGMEAN in methods:
        fitter = Fitter(scorer, parts.factors, [task.searched for task in tasks])
    passes = _passes(tasks, measuring.trials, fitter.passes if fitter else 0)
    run = _Run(parts, scorer, tasks, fitter, events, passes)
    found: dict[str, Any] = {}
    if measuring.trials or fitter:
        empty = [task.name for task in tasks if not task.searched]
        if empty:
            option = "--search" if measuring.trials else "--method regmean"
            raise InputError(
                f"{option}: {empty[0]} has too few test rows to look at some and report on others"
            )
    if measuring.trials:
        before = run.alone(searched=True)
        trials = search(how, methods, before, run.on_searched, measuring.trials)
        how = trials[0].how
        found["search"] = {
            "rows": {task.name: len(task.searched) for task in tasks},
            "trials": [trial.as_dict() for trial in trials],
        }
    alone = run.alone(searched=False)
    result = run.combined(how)
    scorer.wear(result)
    combined = {task.name: run.score(task, searched=False) for task in tasks}
    facts = parts.write(how, result, out)
    facts["tasks"] = {
        name: {
            "alone": alone[name].as_dict(),
            "combined": combined[name].as_dict(),
            "kept": combined[name].exact_match / alone[name].exact_match
            if alone[name].right
            else None,
        }
        for name in measuring.tests
    }
    return {**facts, **found}


class _Run:
    """Scores of a combination under way, and how far it is."""

    def __init__(
        self,
        parts: Parts,
        scorer: Scorer,
        tasks: Sequence[TaskRows],
        fitter: Fitter | None,
        events: Events,
        passes: int,
    ) -> None:
        self._parts, self._scorer, self._tasks, self._fitter = parts, scorer, tasks, fitter
        self._events, self._passes, self._done = events, passes, 0
        events.progress(0, passes)

    def alone(self, *, searched: bool) -> dict[str, Score]:
        """Each adapter on its own task."""
        found = {}
        for task, factors in zip(self._tasks, self._parts.factors, strict=True):
            self._scorer.wear(factors)
            found[task.name] = self.score(task, searched=searched)
        return found

    def on_searched(self, how: Combination) -> dict[str, Score]:
        """A combination on the rows of the search. Raises InputError."""
        check_combination(how, len(self._parts.factors), rows=True)
        self._scorer.wear(self.combined(how))
        return {task.name: self.score(task, searched=True) for task in self._tasks}

    def combined(self, how: Combination) -> LoraFactors:
        """The adapters as one. Raises InputError."""
        if self._fitter is not None and how.method == REGMEAN:
            return self._fitter.fit(how.weights, self._step)
        return combine(self._parts.factors, how)

    def score(self, task: TaskRows, *, searched: bool) -> Score:
        """What is worn, on one task."""
        return self._scorer.score(
            task.name, task.searched if searched else task.reported, self._step
        )

    def _step(self) -> None:
        self._done += 1
        self._events.progress(min(self._done, self._passes), self._passes)


def _passes(tasks: Sequence[TaskRows], trials: int, a_fit: int) -> int:
    """How many rows are answered, or read to fit to them in ``a_fit`` passes, if every trial is made."""
    # What one pass reads is kept for the other trials.
    fitting = a_fit * max(trials, 1) if a_fit > 1 else a_fit
    searched = sum(len(task.searched) for task in tasks)
    rounds = (trials + 1 if trials else 0) + fitting
    return 2 * sum(len(task.reported) for task in tasks) + rounds * searched
