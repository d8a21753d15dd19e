"""The recipe in the making: values, errors in the CLI's words, and the file it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from edgepeft.config.loader import load_recipe
from edgepeft.config.recipe import Recipe
from edgepeft.config.schema import json_schema
from edgepeft.errors import InputError
from edgepeft_tui.draft import Draft
from edgepeft_tui.draft_files import (
    as_json,
    demo_draft,
    from_json,
    new_draft,
    open_draft,
    replaces,
    save,
)
from edgepeft_tui.fields import all_fields, part_fields
from edgepeft_tui.raw_recipe import step_of
from edgepeft_tui.step_marks import marks_of
from tests.command import edgepeft


def _set(draft: Draft, key: str, text: str) -> None:
    draft.set_text(all_fields()[key], text)


def test_every_recipe_key_is_a_field_with_help_and_a_step() -> None:
    schema = json_schema()
    fields = all_fields()
    tops = {key.partition(".")[0] for key in fields}
    assert tops == set(schema["properties"])
    for field in fields.values():
        assert field.help, field.key
        assert step_of(field.key) != "Review", field.key
    assert fields["method.rank"].range == "at least 1, at most 4096"
    assert fields["quantize.head"].choices == ("int4", "int8", "float")
    assert "gptq" in fields["quantize.algorithm"].choices
    assert fields["training.learning_rate"].default == "0.0002"


def test_defaults_of_the_fields_are_those_of_the_recipe() -> None:
    """A recipe that spells every shown default out is the recipe that says nothing."""
    draft = Draft(Path.cwd(), raw={"model": "m"})
    for key, field in all_fields().items():
        if field.default and key not in ("model", "targets"):
            _set(draft, key, field.default)
    assert Recipe.model_validate(draft.raw) == Recipe.model_validate({"model": "m"})


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("method.rank", "0"),
        ("method.rank", "many"),
        ("training.learning_rate", "-1"),
        ("quantize.max_bytes", "a lot"),
        ("data.columns", "prompt"),
        ("gates.max_exact_match_drop", "2"),
    ],
)
def test_an_error_stands_at_its_field_in_the_words_of_the_command(key: str, text: str) -> None:
    draft = Draft(Path.cwd(), raw={"model": "m"})
    _set(draft, key, text)
    errors = draft.errors()
    assert list(errors) == [key]
    Path("r.yaml").write_text(draft.yaml())
    with pytest.raises(InputError) as raised:
        load_recipe(Path("r.yaml"))
    assert str(raised.value) == f"r.yaml: {errors[key]}"
    assert marks_of(draft)[step_of(key)].state == "invalid"


def test_empty_text_takes_a_key_away_and_its_empty_section_with_it() -> None:
    draft = Draft(Path.cwd(), raw={"model": "m"})
    _set(draft, "quantize.calibration.tokens", "2048")
    assert draft.raw["quantize"] == {"calibration": {"tokens": 2048}}
    _set(draft, "quantize.calibration.tokens", " ")
    assert draft.raw == {"model": "m"}


def test_text_fields_are_taken_as_typed_and_others_read_as_yaml() -> None:
    draft = Draft(Path.cwd(), raw={"model": "m"})
    _set(draft, "data.system", "yes")
    _set(draft, "method.target_modules", "[q_proj, v_proj]")
    _set(draft, "training.learning_rate", "1e-3")
    assert draft.get("data.system") == "yes"
    assert draft.get("method.target_modules") == ["q_proj", "v_proj"]
    assert draft.get("training.learning_rate") == 0.001
    assert not draft.errors()


def test_an_adapter_takes_the_place_of_training() -> None:
    draft = Draft(Path.cwd(), raw={"model": "m", "method": {"rank": 4}})
    Path("mine").mkdir()
    draft.use_adapter(Path("mine").resolve())
    assert draft.raw == {"model": "m", "adapter": "mine"}
    assert not draft.trains
    _set(draft, "method.rank", "8")
    assert "remove `method`: an adapter is given" in draft.errors()[""]


def test_a_failed_plan_is_shown_at_the_field_it_speaks_of(tmp_path: Path) -> None:
    draft = Draft(tmp_path, raw={"model": "m", "data": {"train": "rows.jsonl"}})
    for line, key in (
        ("model: m: no such folder or file, and not a known name (x)", "model"),
        (f"{tmp_path}/rows.jsonl: no such data file; check data.train and data.test", "data.train"),
        ("stdin: quantize.block_size: x does not support 16", "quantize.block_size"),
        ("the disk is full", ""),
    ):
        draft.note_failure(line)
        assert draft.findings.trouble == (key, line.removeprefix("stdin: "))


def test_the_demo_saved_elsewhere_plans_as_the_sample_does(tmp_path: Path) -> None:
    draft = demo_draft(tmp_path)
    assert draft.name == "home-control"
    saved = load_recipe(save(draft))
    sample = load_recipe(Path(__file__).parents[2] / "samples/recipes/home-control.yaml")
    assert saved.resolve(saved.recipe.data.train or "") == sample.resolve(
        sample.recipe.data.train or ""
    )
    assert saved.recipe.training == sample.recipe.training
    done = edgepeft("build", draft.path, "--dry-run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_saving_an_unchanged_recipe_leaves_its_comments(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("# why\nmodel: m\ntargets: cpu-int8\n")
    draft = open_draft(path)
    save(draft)
    assert path.read_text().startswith("# why")
    _set(draft, "method.rank", "4")
    save(draft)
    assert yaml.safe_load(path.read_text()) == {
        "model": "m",
        "method": {"rank": 4},
        "targets": ["cpu-int8"],
    }


def test_a_file_of_another_recipe_is_not_written_over_unasked(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("model: other\n")
    draft = Draft(tmp_path, name="run", raw={"model": "m"})
    assert replaces(draft)
    assert new_draft(tmp_path).name == "run-2"
    draft.name = "../out"
    with pytest.raises(InputError, match="not a file name"):
        save(draft)


def test_a_draft_survives_its_json_form(tmp_path: Path) -> None:
    draft = demo_draft(tmp_path)
    assert from_json(as_json(draft)) == draft


def test_several_adapters_are_combined_and_one_is_none_of_that(tmp_path: Path) -> None:
    draft = Draft(tmp_path, raw={"model": "m", "adapter": "one"})
    draft.add_adapter()
    _set_part(draft, 1, "path", "two")
    _set_part(draft, 1, "weight", "0.5")
    _set(draft, "combine.method", "ties")
    _set(draft, "combine.density", "0.4")
    assert not draft.errors()
    assert yaml.safe_load(draft.yaml()) == {
        "model": "m",
        "adapter": ["one", {"path": "two", "weight": 0.5}],
        "combine": {"method": "ties", "density": 0.4},
    }
    assert from_json(as_json(draft)) == draft
    save(draft)
    assert open_draft(draft.path).raw == draft.raw
    _set_part(draft, 1, "weight", "much")
    assert list(draft.errors()) == ["adapter.1.weight"]
    assert marks_of(draft)["Method"].state == "invalid"
    _set_part(draft, 1, "weight", "1")
    draft.note_failure(f"{tmp_path}/two: no such adapter folder")
    assert draft.findings.trouble == ("adapter.1.path", f"{tmp_path}/two: no such adapter folder")
    draft.note_failure("adapter.weight: must be finite numbers, and not all of them 0")
    assert draft.findings.trouble[0] == "adapter"
    draft.drop_adapter()
    assert draft.raw == {"model": "m", "adapter": "one"}
    draft.use_adapter(None)
    assert draft.trains


def _set_part(draft: Draft, index: int, name: str, text: str) -> None:
    draft.set_text(part_fields("adapter", index)[f"adapter.{index}.{name}"], text)


RICH: dict[str, Any] = {
    "model": "m",
    "data": {"test": "test.jsonl"},
    "adapter": ["one", {"path": "two", "weight": 0.5}],
    "combine": {"method": "ties", "density": 0.4},
    "adapters": [{"name": "support", "path": "../support", "test": "support.csv"}],
    "targets": [
        "cpu-int8",
        {"name": "cpu-int4", "adapters": "hot-swap", "adapter_rank": 32},
        {"name": "desk", "like": "cuda-int4", "quantize": {"block_size": 64}},
    ],
}


def test_a_recipe_with_several_targets_and_adapters_loses_no_key(tmp_path: Path) -> None:
    path = tmp_path / "rich.yaml"
    path.write_text("# why\n" + yaml.safe_dump(RICH))
    draft = open_draft(path)
    assert not draft.errors()
    assert draft.swaps
    save(draft)
    assert path.read_text().startswith("# why")
    # One more device, one fewer: the others keep what is said of them.
    draft.toggle_target("cpu-fp32")
    draft.toggle_target("cpu-int8")
    save(draft)
    written = yaml.safe_load(path.read_text())
    assert written == {**RICH, "targets": [*RICH["targets"][1:], "cpu-fp32"]}
    assert from_json(as_json(draft)) == draft
    assert yaml.safe_load(from_json(as_json(draft)).yaml()) == written


def test_a_key_of_one_target_or_adapter_is_a_field_like_any_other(tmp_path: Path) -> None:
    draft = Draft(tmp_path, raw={"model": "m", "targets": ["cpu-int4"]})
    fields = part_fields("targets", 0)
    assert fields["targets.0.adapters"].choices == ("merged", "hot-swap")
    assert fields["targets.0.quantize.block_size"].help
    draft.set_text(fields["targets.0.adapters"], "hot-swap")
    draft.add_part("adapters")
    assert set(draft.errors()) == {"adapters.0.name", "adapters.0.path"}
    assert marks_of(draft)["Targets"].state == "invalid"
    adapter = part_fields("adapters", 0)
    draft.set_text(adapter["adapters.0.name"], "yes")
    draft.set_text(adapter["adapters.0.path"], "there")
    assert yaml.safe_load(draft.yaml()) == {
        "model": "m",
        "adapters": [{"name": "yes", "path": "there"}],
        "targets": [{"name": "cpu-int4", "adapters": "hot-swap"}],
    }
    draft.set_text(fields["targets.0.adapter_rank"], "0")
    assert list(draft.errors()) == ["targets.0.adapter_rank"]
    draft.set_text(fields["targets.0.adapter_rank"], "")
    draft.note_failure("adapters.0.path: there: no such adapter folder")
    assert draft.findings.trouble is not None
    assert draft.findings.trouble[0] == "adapters.0.path"
    draft.drop_part("adapters")
    draft.set_text(fields["targets.0.adapters"], "")
    assert yaml.safe_load(draft.yaml()) == {"model": "m", "targets": ["cpu-int4"]}
