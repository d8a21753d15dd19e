"""Where tasks run: never more at a time, nor more memory, than a place has; what fails stays where it failed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from edgepeft.config.loader import load_recipe
from edgepeft.config.matrix import cells_of
from edgepeft.errors import EdgepeftError
from edgepeft.events import Event, Sink, discard
from edgepeft.fleet import local, scheduling
from edgepeft.fleet.scheduling import Done, Place, PlaceLost, run_tasks
from edgepeft.fleet.tasks import Fleet, Task, plan_fleet
from edgepeft.pipeline.execute import Order
from edgepeft.runs.folder import RunFolder
from tests.conftest import ModelMaker
from tests.project import write_project

GB = 1e9


class PaperCrew:
    """Takes a moment for each task and writes down what was at work together; some tasks go wrong."""

    def __init__(self, places: Sequence[Place], wrong: dict[str, list[BaseException]]) -> None:
        self._places = list(places)
        self._wrong = wrong
        self.order: list[str] = []
        self.together: list[tuple[str, tuple[str, ...]]] = []

    def at(self, run: RunFolder) -> AbstractContextManager[None]:
        return nullcontext()

    def places(self) -> Sequence[Place]:
        return self._places

    def start(self, task: Task, order: Order, place: Place, sink: Sink, done: Done) -> None:
        assert {name: path.name for name, path in order.inputs.items()}
        self.order.append(task.label)
        self.together.append((place.name, tuple(one.label for one in place.running)))
        errors = self._wrong.get(task.label)
        error = errors.pop(0) if errors else None
        threading.Timer(0.01, done, (task, place, error)).start()

    def interrupt(self, *, at_once: bool) -> None:
        raise AssertionError("nobody interrupted")


@pytest.fixture
def fleet(tiny_model: ModelMaker, tmp_path: Path) -> Fleet:
    project = write_project(tiny_model("llama"), tmp_path)
    project.recipe["matrix"] = {"training.seed": [0, 1, 2]}
    project.plan()
    recipe = load_recipe(tmp_path / "recipe.yaml")
    return plan_fleet(cells_of(recipe), RunFolder(tmp_path / "run"))


def carried(fleet: Fleet, crew: PaperCrew, sink: Sink = discard) -> scheduling.Course:
    return run_tasks(fleet, crew, lambda cell: None, sink)


def test_needs_come_first_and_nothing_runs_twice(fleet: Fleet) -> None:
    crew = PaperCrew([Place("here", 3, 100 * GB)], {})
    course = carried(fleet, crew)
    assert len(crew.order) == len(set(crew.order)) == len(fleet.tasks) == len(course.finished)
    for task in fleet.tasks:
        assert all(
            crew.order.index(need.label) < crew.order.index(task.label) for need in task.needs
        )
    assert not course.errors
    # Three targets' worth of cells, one base, and a training for each seed.
    assert [label for label in crew.order if label.endswith("train")] == [
        *("seed-0/train", "seed-1/train", "seed-2/train")
    ]


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_no_more_at_a_time_than_jobs(fleet: Fleet, jobs: int) -> None:
    crew = PaperCrew([Place("here", jobs, 100 * GB)], {})
    carried(fleet, crew)
    assert max(len(labels) for _, labels in crew.together) == jobs


def test_no_more_memory_than_there_is_but_one_large_task_alone(fleet: Fleet) -> None:
    needs = {task.label: scheduling.need(task) for task in fleet.tasks}
    budget = 1.0 * GB
    assert max(needs.values()) > budget
    crew = PaperCrew([Place("here", 8, budget)], {})
    carried(fleet, crew)
    taken = [sum(needs[label] for label in labels) for _, labels in crew.together]
    assert max(len(labels) for _, labels in crew.together) == 2
    for (_, labels), total in zip(crew.together, taken, strict=True):
        assert total <= budget or len(labels) == 1


def test_all_places_are_used(fleet: Fleet) -> None:
    crew = PaperCrew([Place("one", 1, GB), Place("other", 1, GB)], {})
    carried(fleet, crew)
    assert {name for name, _ in crew.together} == {"one", "other"}


def test_a_failure_ends_the_cells_that_need_it_and_no_others(fleet: Fleet) -> None:
    events: list[Event] = []
    wrong: dict[str, list[BaseException]] = {"seed-1/merge": [EdgepeftError("disk full")]}
    crew = PaperCrew([Place("here", 2, 100 * GB)], wrong)
    course = carried(fleet, crew, events.append)
    assert {name: str(error) for name, error in course.errors.items()} == {
        "seed-1/cpu-int4": "disk full",
        "seed-1/cpu-fp32": "disk full",
    }
    after = crew.order[crew.order.index("seed-1/merge") + 1 :]
    assert not any(label.startswith("seed-1/quantize") for label in after)
    assert {"seed-0/verify-cpu-int4", "seed-2/verify-cpu-fp32"} <= set(crew.order)


def test_a_task_whose_place_is_lost_is_tried_once_more(fleet: Fleet) -> None:
    lost = PlaceLost("the worker is gone")
    wrong: dict[str, list[BaseException]] = {"seed-0/train": [lost], "seed-1/train": [lost, lost]}
    crew = PaperCrew([Place("here", 2, 100 * GB)], wrong)
    course = carried(fleet, crew)
    assert crew.order.count("seed-0/train") == crew.order.count("seed-1/train") == 2
    assert set(course.errors) == {"seed-1/cpu-int4", "seed-1/cpu-fp32"}


def test_a_mistake_of_ours_is_not_hidden(fleet: Fleet) -> None:
    class Crew(PaperCrew):
        def interrupt(self, *, at_once: bool) -> None:
            self.order.append(f"interrupted {at_once}")

    crew = Crew([Place("here", 2, 100 * GB)], {"base": [ZeroDivisionError("oh")]})
    with pytest.raises(ZeroDivisionError):
        carried(fleet, crew)
    assert crew.order == ["base", "interrupted True"]


def test_cores_are_not_cut_finer_than_there_are_trainings(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [one.cell for one in fleet.cells]
    monkeypatch.setattr(local, "has_gpus", lambda: False)
    for cores, jobs in ((1, 1), (2, 2), (16, 3)):
        monkeypatch.setattr(local, "cores", lambda count=cores: count)
        assert local.default_jobs(cells) == jobs
    monkeypatch.setattr(local, "has_gpus", lambda: True)
    assert local.default_jobs(cells) == 1
