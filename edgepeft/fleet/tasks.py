"""The work of a fleet: every cell planned, and each stage that any of them needs once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgepeft.config.matrix import Cell
from edgepeft.errors import EdgepeftError
from edgepeft.pipeline.execute import is_done
from edgepeft.pipeline.plan import Plan
from edgepeft.pipeline.planner import make_plan
from edgepeft.runs.folder import RunFolder
from edgepeft.stages.job import Stage


@dataclass
class CellPlan:
    """A cell with its plan, or with the error that planning it met."""

    cell: Cell
    plan: Plan | None = None
    error: EdgepeftError | None = None

    @property
    def name(self) -> str:
        """The cell's name."""
        return self.cell.name


@dataclass
class Task:
    """One stage, whichever cells need it. ``plan`` is that of the first of ``cells``; ``needs`` come before it.

    ``label`` is unique in the fleet: the choices that all its cells have in common, and the stage's name.
    """

    stage: Stage
    plan: Plan
    cells: list[CellPlan]
    needs: list[Task]
    label: str = ""

    @property
    def names(self) -> list[str]:
        """The names of its cells."""
        return [cell.name for cell in self.cells]

    @property
    def log(self) -> Path:
        """Where its libraries' talk goes."""
        return self.plan.run.logs / f"{self.label.replace('/', '-')}.log"


@dataclass
class Fleet:
    """Cells and tasks of one build, both in the order in which they are to be done."""

    run: RunFolder
    cells: list[CellPlan]
    tasks: list[Task] = field(default_factory=list)

    @property
    def plans(self) -> list[Plan]:
        """The plans there are."""
        return [cell.plan for cell in self.cells if cell.plan is not None]

    @property
    def waiting(self) -> list[Task]:
        """The tasks that are still to be done."""
        return [task for task in self.tasks if not is_done(task.stage)]


def plan_fleet(cells: Sequence[Cell], run: RunFolder, *, until: str = "verify") -> Fleet:
    """Plan every cell in the folder of ``run`` and find what they share.

    A cell that can't be planned keeps its error; raises it where that is so of all.
    """
    fleet = Fleet(run, [_planned(cell, run, until) for cell in cells])
    if not fleet.plans:
        error = next(one.error for one in fleet.cells if one.error is not None)
        raise type(error)(f"{fleet.cells[0].name}: {error}")
    by_output: dict[Path, Task] = {}
    for one in fleet.cells:
        for stage in one.plan.stages if one.plan is not None else ():
            assert one.plan is not None
            task = by_output.get(stage.final)
            if task is None:
                needs = [by_output[one.plan.stage(name).final] for name in stage.inputs.values()]
                task = by_output[stage.final] = Task(stage, one.plan, [], needs)
                fleet.tasks.append(task)
            task.cells.append(one)
    _label(fleet.tasks)
    return fleet


def _planned(cell: Cell, run: RunFolder, until: str) -> CellPlan:
    own = RunFolder(run.path, "/".join(cell.choices.values()))
    try:
        return CellPlan(cell, make_plan(cell.recipe, own, until=until))
    except EdgepeftError as error:
        return CellPlan(cell, error=error)


def _label(tasks: Sequence[Task]) -> None:
    for task in tasks:
        first, *others = (one.cell.choices for one in task.cells)
        common = [
            choice
            for axis, choice in first.items()
            if all(other[axis] == choice for other in others)
        ]
        task.label = "/".join((*common, task.stage.name))
    counts = Counter(task.label for task in tasks)
    for task in tasks:
        if counts[task.label] > 1:
            task.label += f"-{task.stage.key[:6]}"
