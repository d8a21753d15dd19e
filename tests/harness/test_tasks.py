"""Tasks are found, looked at before anything is fetched, carried out as lm_eval does, and scored by type."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgepeft.errors import EdgepeftError, InputError, MissingError
from edgepeft.events import Event, Events
from edgepeft.harness import BundleLM
from edgepeft.harness.results import task_scores
from edgepeft.harness.run import Asked, Engine, evaluate
from edgepeft.harness.tasks import load_tasks
from edgepeft.runtime import Bundle
from tests.conftest import SAMPLES
from tests.harness.conftest import Twins

OWN = SAMPLES / "lm_eval"
NAMES = ["home_control", "home_control_device"]
WriteTask = Callable[..., Path]


@pytest.fixture
def write_task(tmp_path: Path) -> WriteTask:
    """``write_task(**settings)``: a folder with one task ``mine`` of two rows, changed as ``settings`` say."""

    def write(**settings: Any) -> Path:
        rows = [{"q": f"What is the colour of {thing}?", "a": "w"} for thing in ("snow", "milk")]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        task = {
            "task": "mine",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "q",
            "doc_to_target": "a",
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4},
            "metric_list": [
                {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
            ],
            **settings,
        }
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(task))
        return tmp_path

    return write


def responses(model: Any, *, chat: bool, shots: int) -> list[Any]:
    """What a model says to three rows of each sample task, all of lm_eval's way taken."""
    from lm_eval.evaluator import evaluate as carry_out

    loaded = load_tasks(NAMES, OWN)
    for task in loaded.tasks.values():
        task.set_config("num_fewshot", shots)
        task.set_fewshot_seed(1)
    found = carry_out(
        lm=model,
        task_dict=vars(loaded),
        limit=3,
        bootstrap_iters=0,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
    )
    return [sample["resps"] for name in NAMES for sample in found["samples"][name]]


@pytest.mark.parametrize(("chat", "shots"), [(False, 0), (False, 2), (True, 0), (True, 2)])
def test_tasks_are_answered_as_by_hf(twins: Twins, chat: bool, shots: int) -> None:
    """Answers to the letter, log-likelihoods to a thousandth; the tiny template writes no BOS."""
    ours = responses(BundleLM(twins.bundle), chat=chat, shots=shots)
    theirs = responses(twins.hf(add_bos_token=False if chat else None), chat=chat, shots=shots)
    assert ours[:3] == theirs[:3]
    assert len(ours) == len(theirs) == 6
    for row, other in zip(ours[3:], theirs[3:], strict=True):
        assert len(row) == 15
        for ((nats, greedy),), ((wanted, likeliest),) in zip(row, other, strict=True):
            assert nats == pytest.approx(wanted, abs=1e-3)
            assert greedy == likeliest


def test_a_task_is_scored(twins: Twins) -> None:
    told: list[Event] = []
    bundle = Bundle.open(twins.bundle)
    asked = Asked([*NAMES, "home_control"], OWN, limit=4, fewshot=1)
    found = evaluate(bundle, asked, Engine(), Events("eval", told.append, min_interval=0))
    assert list(found.tasks) == NAMES
    task = found.tasks["home_control_device"]
    assert (task.samples, task.of, task.fewshot, task.version) == (4, 200, 1, "1.0")
    score = task.metrics["acc"]
    assert score.value in (0, 0.25, 0.5, 0.75, 1)
    assert score.stderr is not None
    assert score.higher_is_better
    assert found.versions["lm_eval"].startswith("0.4.")
    assert json.loads(json.dumps(found.as_dict()))["tasks"]["home_control"]["samples"] == 4
    steps = [event for event in told if event["event"] == "progress"]
    assert [event["total"] for event in steps if event["step"] == 0] == [4, 60]
    assert steps[-1]["step"] == 60


def test_the_answer_that_is_right_counts(twins: Twins, write_task: WriteTask) -> None:
    """The rows want what this model says, so that a measure stuck at 0 would be seen."""
    bundle = Bundle.open(twins.bundle)
    folder = write_task()
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    from edgepeft.runtime import Runtime

    said = Runtime(bundle).complete(rows[0]["q"], max_new_tokens=4, stop=["\n"]).text
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps({"q": row["q"], "a": said}) + "\n" for row in rows[:1])
    )
    found = evaluate(bundle, Asked(["mine"], folder), Engine(), Events("eval"))
    assert found.tasks["mine"].metrics["exact_match"].value == 1.0


def test_a_group_is_scored_and_measures_of_filters_have_their_name(
    twins: Twins, write_task: WriteTask
) -> None:
    take = {"function": "take_first"}
    folder = write_task(
        filter_list=[
            {"name": "none", "filter": [take]},
            {"name": "low", "filter": [{"function": "lowercase"}, take]},
        ]
    )
    group = {"group": "all_mine", "task": ["mine"]}
    group["aggregate_metric_list"] = [{"metric": "exact_match"}]  # type: ignore[list-item]
    (folder / "group.yaml").write_text(yaml.safe_dump(group))
    from lm_eval.evaluator import evaluate as carry_out
    from lm_eval.tasks import TaskManager

    # lm_eval's own tasks take seconds to read and are not needed.
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        loaded = manager.load(["all_mine"])
    found = carry_out(lm=BundleLM(twins.bundle), task_dict=loaded, bootstrap_iters=10)
    assert set(task_scores(found, "results", "mine").metrics) == {"exact_match", "exact_match,low"}
    whole = task_scores(found, "groups", "all_mine")
    assert (whole.samples, whole.of) == (2, None)
    assert whole.metrics["exact_match"].value == 0.0


def test_lm_eval_itself_takes_a_bundle_and_caches_its_prompts_and_answers(
    twins: Twins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The documented way from Python; the second model sees prompts that it never rendered."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr("lm_eval.caching.cache.PATH", str(tmp_path / "prompts"))
    monkeypatch.chdir(OWN)

    def found(**options: Any) -> Any:
        results = lm_eval.simple_evaluate(
            model=BundleLM(twins.bundle),
            tasks=["home_control_device"],
            task_manager=TaskManager(include_path=str(OWN), include_defaults=False),
            limit=2,
            apply_chat_template=True,
            bootstrap_iters=0,
            **options,
        )
        assert results is not None
        assert results["config"]["bundle"] == str(twins.bundle)
        return [sample["resps"] for sample in results["samples"]["home_control_device"]]

    fresh = found()
    assert found(cache_requests=True) == fresh
    (kept,) = (tmp_path / "prompts").iterdir()
    assert BundleLM(twins.bundle).tokenizer_name in kept.name
    assert found(cache_requests=True, use_cache=str(tmp_path / "answers")) == fresh
    assert found(use_cache=str(tmp_path / "answers")) == fresh


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"unsafe_code": True}, InputError, "runs code that the model writes"),
        ({"doc_to_image": "q"}, InputError, "asks about pictures or sounds"),
        (
            {"metric_list": [{"metric": "sacre_mine"}]},
            InputError,
            "takes its measure sacre_mine from the hub as Python code",
        ),
        (
            {"dataset_kwargs": {"data_files": {"test": "other.jsonl"}}},
            InputError,
            "its data set json: Unable to find",
        ),
        ({"doc_to_text": "{{unheard_of}}"}, InputError, "lm_eval can't load it (UndefinedError"),
    ],
)
def test_a_task_that_cannot_be_taken_is_one_line(
    write_task: WriteTask, settings: dict[str, Any], kind: type[EdgepeftError], said: str
) -> None:
    folder = write_task(**settings)
    with pytest.raises(kind) as refused:
        load_tasks(["mine"], folder)
    line = str(refused.value)
    assert line.startswith("--tasks mine: ")
    assert said in line
    assert "\n" not in line


def test_code_beside_a_task_is_run_and_what_it_lacks_is_named(write_task: WriteTask) -> None:
    folder = write_task()
    path = folder / "mine.yaml"
    path.write_text(path.read_text().replace("doc_to_text: q", "doc_to_text: !function own.ask"))
    (folder / "own.py").write_text("def ask(row):\n    return row['q'].upper()\n")
    loaded = load_tasks(["mine"], folder)
    task = loaded.tasks["mine"]
    assert task.doc_to_text(task.eval_docs[0]) == "WHAT IS THE COLOUR OF SNOW?"
    path.write_text(path.read_text().replace("own.ask", "lacking.ask"))
    (folder / "lacking.py").write_text("import no_such_library\n")
    with pytest.raises(MissingError, match="mine: needs the library no_such_library, which is"):
        load_tasks(["mine"], folder)


def test_more_examples_than_there_are_rows_are_refused(twins: Twins, write_task: WriteTask) -> None:
    asked = Asked(["mine"], write_task(), fewshot=7)
    with pytest.raises(InputError, match=r"--num-fewshot 7: mine has [12] rows to show"):
        evaluate(Bundle.open(twins.bundle), asked, Engine(), Events("eval"))


def test_a_task_file_that_is_no_yaml_is_named(write_task: WriteTask) -> None:
    folder = write_task()
    (folder / "mine.yaml").write_text("task: mine\n  dataset_path: [json\n")
    with pytest.raises(InputError, match=r"mine\.yaml: not a task file that can be read \(mapping"):
        load_tasks(["mine"], folder)


def test_an_unknown_task_is_named_with_those_near(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        load_tasks(["hellaswagg"], None)
    line = str(refused.value)
    assert "no such task; did you mean hellaswag, " in line
    assert len(line) < 300
    with pytest.raises(InputError, match=r"--task-folder .*/nowhere: no such folder"):
        load_tasks(["mine"], tmp_path / "nowhere")
