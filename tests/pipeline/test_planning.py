"""The plan: which stages there are, and what makes their outputs theirs."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepeft.evaluation.witness.exact import graph_form
from edgepeft.pipeline.kinds.registry import all_kinds
from edgepeft.pipeline.resources import estimate
from edgepeft.stages.job import StageResult
from edgepeft.targets import find_target
from tests.command import edgepeft
from tests.project import Keys, Project
from tests.stages import write_adapter


def changed(before: Keys, after: Keys) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


FLOAT_GRAPH = "float-graph-" + graph_form(find_target("cpu-int4"))
STAGES = [
    *("base", "train", "merge", "quantize-int4", "export-cpu-int4", "export-cpu-fp32"),
    *("witness", FLOAT_GRAPH, "reference", "verify-cpu-int4", "verify-cpu-fp32"),
]
AFTER_TRAINING = set(STAGES) - {"base"}
AFTER_MERGE = AFTER_TRAINING - {"train", "reference"}
INT4_ONLY = {"quantize-int4", "export-cpu-int4", "verify-cpu-int4"}
MEASURED = {"witness", FLOAT_GRAPH, "reference", "verify-cpu-int4", "verify-cpu-fp32"}


def test_stages_in_order_and_the_same_keys_however_often_and_wherever(project: Project) -> None:
    keys = project.keys()
    assert list(keys) == STAGES
    assert len(set(keys.values())) == len(keys)
    assert project.keys() == keys
    assert project.keys(out="elsewhere") == keys


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("gates.max_task_kl=9", set()),
        ("gates.max_exact_match_drop=null", set()),
        ("quantize.algorithm=k_quant", INT4_ONLY),
        ("quantize.block_size=64", INT4_ONLY),
        ("quantize.symmetric=true", INT4_ONLY),
        ("quantize.head=int4", INT4_ONLY),
        (
            "layout=genai",
            {
                f"{kind}-{target}"
                for kind in ("export", "verify")
                for target in ("cpu-int4", "cpu-fp32")
            }
            | {FLOAT_GRAPH},
        ),
        ("quantize.accuracy_level=0", {"export-cpu-int4", "verify-cpu-int4"}),
        # What the target says anyway, and nothing that a float target reads.
        ("quantize.accuracy_level=4", set()),
        ("merge.base=original", AFTER_MERGE),
        ("training.seed=1", AFTER_TRAINING),
        ("training.max_steps=3", AFTER_TRAINING),
        ("method.rank=2", AFTER_TRAINING),
        ("method.name=lora", AFTER_TRAINING),
        ("data.max_length=64", AFTER_TRAINING),
        ("data.system=Be brief.", AFTER_TRAINING),
        ("data.max_test_rows=3", MEASURED),
        ("data.generic=null", MEASURED),
    ],
)
def test_an_option_changes_the_keys_of_what_reads_it(
    project: Project, override: str, expected: set[str]
) -> None:
    assert changed(project.keys(), project.keys(override)) == expected


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        # Nothing is trained, so what only training reads counts for nothing.
        ("data.max_length=64", set()),
        ("merge.grid=none", {*AFTER_MERGE, "reference"}),
        ("merge.base=original", AFTER_MERGE),
    ],
)
def test_with_an_adapter_only_what_is_left_to_do_is_keyed(
    project: Project, override: str, expected: set[str]
) -> None:
    project.use_adapter()
    before = project.keys()
    assert list(before) == [name for name in STAGES if name != "train"]
    assert changed(before, project.keys(override)) == expected


def append(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with (folder / name).open("a") as stream:
            stream.write(text)

    return change


def flip_a_weight(folder: Path) -> None:
    path = folder / "model" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


ROW = json.dumps({"prompt": "Of what colour is a rose?", "completion": "r"}) + "\n"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (flip_a_weight, set(STAGES)),
        (append("model/chat_template.jinja", " "), set(STAGES)),
        (append("train.jsonl", ROW), AFTER_TRAINING),
        (append("generic.txt", "More of it."), MEASURED),
        (append("notes.md", "Not named by the recipe."), set()),
    ],
)
def test_content_of_files_counts(
    project: Project, change: Callable[[Path], None], expected: set[str]
) -> None:
    before = project.keys()
    change(project.folder)
    assert changed(before, project.keys()) == expected


@pytest.mark.parametrize(("rows", "expected"), [(0, MEASURED), (8, AFTER_TRAINING)])
def test_test_rows_count_for_training_only_where_it_evaluates(
    project: Project, rows: int, expected: set[str]
) -> None:
    option = f"training.eval_rows={rows}"
    before = project.keys(option)
    append("test.jsonl", ROW)(project.folder)
    assert changed(before, project.keys(option)) == expected


def test_a_template_file_is_an_input_by_its_content(project: Project) -> None:
    template = project.folder / "my.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    before = project.keys("data.template=my.jinja")
    stage = project.plan("data.template=my.jinja").stage("train")
    assert stage.files["template"][0] == template
    template.write_text("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    # The kept merge and its codes read no template, but come after a training that does.
    assert changed(before, project.keys("data.template=my.jinja")) == AFTER_TRAINING


def test_adapter_content_counts_and_an_unsaid_grid_is_noted(project: Project) -> None:
    project.use_adapter()
    before = project.plan()
    assert len(before.notes) == 1
    assert "Set merge.grid: none" in before.notes[0]
    assert project.plan("merge.grid=nf4").notes == ()
    assert project.plan("merge.base=original").notes == ()
    append("adapter/README.md", "- load_in_4bit: True\n")(project.folder)
    after = project.plan()
    assert after.notes == ()
    names = {stage.name for stage in after.stages} - {"base"}
    keys = [{stage.name: stage.key for stage in plan.stages} for plan in (before, after)]
    assert changed(*keys) == names


def test_an_adapter_on_the_command_line_replaces_training(project: Project) -> None:
    """Whatever the recipe says of method and training, and without training rows; the same for each command."""
    write_adapter(project.folder / "model", project.folder / "adapter")
    project.recipe |= {"method": {"rank": 4}, "training": {"max_steps": 3}}
    project.recipe["data"].pop("train")
    plan = project.plan("adapter=adapter")
    assert "the adapter given replaces method and training of the recipe" in plan.notes
    assert [stage.name for stage in plan.stages][:2] == ["base", "merge"]
    recipe, adapter = project.folder / "recipe.yaml", project.folder / "adapter"
    for command in ("plan", "build", "merge", "quantize", "export", "verify"):
        dry = [] if command == "plan" else ["--dry-run"]
        done = edgepeft(command, recipe, "--adapter", adapter, *dry)
        assert done.returncode == 0, done.stderr
        assert "note     the adapter given replaces method and training" in done.stderr
        assert f"adapter  {adapter}" in done.stdout
    refused = edgepeft("plan", recipe, "--adapter", adapter, "--set", "training.max_steps=2")
    assert refused.returncode == 2
    assert "remove `training`: an adapter is given" in refused.stderr


def test_one_more_target_leaves_the_others_alone(project: Project) -> None:
    before = project.keys()
    project.recipe["targets"] = ["cpu-int8", "cpu-int4", "cpu-fp32"]
    after = project.keys()
    assert changed(before, after) == {"quantize-int8", "export-cpu-int8", "verify-cpu-int8"}


def test_smoothing_is_for_8_bits_unless_the_recipe_says_otherwise(project: Project) -> None:
    project.recipe["targets"] = ["cpu-int8", "cpu-int4"]

    def smoothed(*overrides: str) -> dict[str, bool]:
        stages = project.plan(*overrides).kind("quantize")
        found = {
            stage.name: stage.settings.identity()["quantize"].get("smooth", False)
            for stage in stages
        }
        calibrated = {stage.name: "calibration_rows" in stage.files for stage in stages}
        assert all(calibrated[name] for name, smooth in found.items() if smooth)
        return found

    assert smoothed() == {"quantize-int8": True, "quantize-int4": False}
    assert not any(smoothed("quantize.smooth=false").values())
    assert all(smoothed("quantize.smooth=true").values())
    # Who names an algorithm gets it as it is.
    assert not any(smoothed("quantize.algorithm=rtn").values())


def test_learning_asks_for_calibration_data_and_time(project: Project) -> None:
    project.recipe["targets"] = ["cpu-int8"]
    project.recipe["quantize"] = {"algorithm": "rtn"}
    plain, learned = project.plan(), project.plan("quantize.learn_steps=40")
    for plan, wanted in ((plain, False), (learned, True)):
        stage = plan.stage("quantize-int8")
        assert bool(stage.settings.identity()["quantize"]["learn_steps"]) == wanted
        assert ("calibration_rows" in stage.files) == wanted
    seconds = [
        next(row.seconds for row in estimate(plan, 1e9) if row.name == "quantize-int8")
        for plan in (plain, learned)
    ]
    assert seconds[1] > seconds[0] + 0.1


def test_merge_that_is_not_kept_is_done_again_by_its_readers(project: Project) -> None:
    plan = project.plan("merge.save=false")
    assert [stage.name for stage in plan.stages] == [s for s in STAGES if s != "merge"]
    assert dict(plan.stage("quantize-int4").inputs) == {"base": "base", "train": "train"}
    assert dict(plan.stage("export-cpu-int4").inputs)["quantize"] == "quantize-int4"
    assert "merge" in project.plan().stage("quantize-int4").inputs


@pytest.mark.parametrize(
    "until", [kind for kind in all_kinds() if kind not in ("combine", "adapt")]
)
def test_a_plan_ends_where_it_is_told_and_leaves_its_keys(project: Project, until: str) -> None:
    whole = project.keys()
    part = project.keys(until=until)
    kinds = [stage.kind for stage in project.plan(until=until).stages]
    assert kinds[-1] == until
    assert part == {name: whole[name] for name in part}


def test_merging_alone_keeps_the_merge_whatever_the_recipe_says(project: Project) -> None:
    plan = project.plan("merge.save=false", until="merge")
    assert [stage.name for stage in plan.stages] == ["base", "train", "merge"]
    # It is the same merge that a build which keeps it makes.
    assert project.keys("merge.save=false", until="merge").items() <= project.keys().items()


def test_final_folders_are_below_the_run_and_bundles_by_target(project: Project) -> None:
    plan = project.plan()
    run = project.folder / "run"
    for stage in plan.stages:
        if stage.kind == "export":
            assert stage.final == run / "bundles" / stage.name.removeprefix("export-")
        else:
            assert stage.final == run / "stages" / f"{stage.name}-{stage.key[:12]}"
    assert not run.exists()


def test_planning_needs_no_heavy_library(project: Project) -> None:
    project.plan()
    program = (
        "import sys; from pathlib import Path; from edgepeft.config.loader import load_recipe; "
        "from edgepeft.pipeline.planner import make_plan; from edgepeft.runs.folder import RunFolder; "
        "make_plan(load_recipe(Path(sys.argv[1])), RunFolder(Path(sys.argv[1]).parent / 'run')); "
        "sys.exit(bool({'torch', 'transformers', 'onnxruntime'} & set(sys.modules)))"
    )
    recipe = str(project.folder / "recipe.yaml")
    assert subprocess.run([sys.executable, "-c", program, recipe], check=False).returncode == 0


def test_the_functions_of_every_kind_read_its_settings_and_return_a_result() -> None:
    for spec in all_kinds().values():
        for reference in spec.functions.values():
            hints = typing.get_type_hints(pkgutil.resolve_name(reference))
            (settings,) = typing.get_args(hints["job"])
            assert issubclass(spec.settings, settings)
            assert issubclass(hints["return"], StageResult)
