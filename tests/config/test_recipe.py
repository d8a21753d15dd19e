"""Recipes: strict about every key, exact about every value, and plain about what is wrong."""

from __future__ import annotations

import io
import os
import socket
import typing
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel, ValidationError

from edgepeft.config.loader import load_recipe, varied
from edgepeft.config.matrix import cells_of
from edgepeft.config.recipe import Recipe, promised
from edgepeft.config.schema import json_schema
from edgepeft.errors import InputError

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "samples" / "recipes").glob("*.yaml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def sections(model: type[BaseModel] = Recipe, prefix: str = "") -> dict[str, type[BaseModel]]:
    """Every section of the recipe by its place, the recipe itself under the empty name."""
    found = {prefix: model}
    for name, field in model.model_fields.items():
        for part in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found |= sections(part, f"{prefix}.{name}" if prefix else name)
    return found


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_and_names_files_that_are_there(path: Path) -> None:
    recipe = load_recipe(path)
    for one in (recipe.recipe, *(cell.recipe.recipe for cell in cells_of(recipe))):
        parts = one.adapter if isinstance(one.adapter, list) else []
        alone = None if isinstance(one.adapter, list) else one.adapter
        for name in (one.data.train, one.data.test, alone, *(part.path for part in parts)):
            assert name is None or recipe.resolve(name).exists()
    assert recipe.name == path.stem
    # What is stored as the resolved recipe means the same when it is read again.
    assert Recipe.model_validate(yaml.safe_load(recipe.resolved_yaml())) == recipe.recipe


def test_there_are_shipped_recipes() -> None:
    assert SHIPPED


def test_a_resolved_recipe_with_an_adapter_loads_again() -> None:
    recipe = load_recipe(None, ["model=x", "adapter=y"])
    resolved = yaml.safe_load(recipe.resolved_yaml())
    assert {"method", "training"}.isdisjoint(resolved)
    assert Recipe.model_validate(resolved) == recipe.recipe


def test_defaults_are_those_of_the_contract() -> None:
    recipe = load_recipe(None, ["model=x"]).recipe
    assert [target.name for target in recipe.targets] == ["cpu-int4"]
    assert (recipe.gates.max_exact_match_drop, recipe.gates.max_task_kl) == (0.03, 0.05)
    assert (recipe.gates.max_generic_kl, recipe.gates.min_exact_match) == (None, None)
    assert (recipe.merge.base, recipe.merge.grid) == ("dequantized", "auto")
    assert recipe.data.max_test_rows == 200
    assert (recipe.method.name, recipe.method.target_modules) == ("qlora", "all-linear")


def test_paths_are_relative_to_the_recipe_file(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(Path("/"))
    recipe = load_recipe(write(tmp_path, "model: ../models/a\n"))
    assert recipe.resolve(recipe.recipe.model) == tmp_path.parent / "models" / "a"
    assert recipe.resolve("/data/x") == Path("/data/x")
    monkeypatch.setenv("HOME", "/home/me")
    assert recipe.resolve("~/x") == Path("/home/me/x")
    assert load_recipe(None, ["model=m"]).resolve("m") == Path("/m")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle: x", "modle: no such key; did you mean model?"),
        ("model: x\ntrainig: {}", "trainig: no such key; did you mean training?"),
        (
            "model: x\ntraining: {learningrate: 1.0e-3}",
            "training.learningrate: no such key; did you mean learning_rate?",
        ),
        (
            "model: x\ntargets: [{name: a, presision: int4}]",
            "targets.0.presision: no such key; did you mean ",
        ),
        ("model: x\nquantize: {bitz: 4}", "quantize.bitz: no such key; known keys: algorithm,"),
        ("data: {}", "model: this key is required"),
        ("model: x\ntargets: [{}]", "targets.0.name: this key is required"),
        ("model: x\ntargets: []", "targets: "),
        ("model: x\ntargets: [a, b, a]", "targets names a twice"),
        ("model: 3", "model: input should be a valid string (got 3)"),
        ("model: x\nmethod: {rank: 0}", "method.rank: input should be greater than or equal to 1"),
        ("model: x\nmethod: {rank: 1.5}", "method.rank: "),
        ("model: x\nmethod: {alpha: .nan}", "method.alpha: "),
        ("model: x\ntraining: {learning_rate: .inf}", "training.learning_rate: "),
        ("model: x\ntraining: {seed: -1}", "training.seed: "),
        ("model: x\ngates: {max_exact_match_drop: 1.1}", "gates.max_exact_match_drop: "),
        ("model: x\ngates: {max_task_kl: .nan}", "gates.max_task_kl: "),
        ("model: x\nquantize: {block_size: 48}", "quantize.block_size: input should be 16, 32"),
        ("model: x\nmerge: {base: nearest}", "merge.base: input should be 'dequantized', 'or"),
        ("model: x\ntraining: fast", "training: "),
        ("model: x\nadapter: 3", "adapter: input should be a valid string or a valid list (got 3)"),
        ("model: x\nadapter: [{weight: 1}]", "adapter.0.path: this key is required"),
        (
            "model: x\nadapter: [a, {path: b, wieght: 1}]",
            "adapter.1.wieght: no such key; did you mean w",
        ),
        (
            "model: x\nadapter: a\nmethod: {rank: 4}",
            "remove `method`: an adapter is given",
        ),
        (
            "model: x\nadapter: a\nmethod: {}\ntraining: {}",
            "remove `method` and `training`: an adapter is given",
        ),
        ("[]", "a recipe is a mapping with keys such as model"),
        ("just text", "a recipe is a mapping with keys such as model"),
        ("", "model: this key is required"),
        ("model: [", "line 1: not valid YAML"),
        ("model: x\n\tdata: y", "line 2: not valid YAML"),
        (
            "model: !!python/object/apply:os.getcwd []",
            "line 1: model: the tag !!python/object/apply",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_the_mend(
    tmp_path: Path, text: str, message: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_problems_are_counted_not_listed(tmp_path: Path) -> None:
    path = write(tmp_path, "a: 1\nb: 2\nc: 3\nd: 4\n")
    with pytest.raises(InputError, match=r"and 2 more$"):
        load_recipe(path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00m"])
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "recipe.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"recipe\.yaml: (no such recipe file|cannot be read)"):
        load_recipe(path)
    with pytest.raises(InputError, match="cannot be read as a recipe"):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        ("training.learning_rate=1e-3", "training.learning_rate", 0.001),
        ("training.learning_rate=2.5e-4", "training.learning_rate", 0.00025),
        ("training.max_steps=7", "training.max_steps", 7),
        ("training.max_steps=null", "training.max_steps", None),
        ("merge.save=false", "merge.save", False),
        ("gates.max_task_kl=0", "gates.max_task_kl", 0.0),
        ("method.target_modules=[q_proj, v_proj]", "method.target_modules", ["q_proj", "v_proj"]),
        ("data.columns={prompt: question}", "data.columns", {"prompt": "question"}),
        ("data.columns.prompt=question", "data.columns", {"prompt": "question"}),
        ("data.system=Be brief.", "data.system", "Be brief."),
        # A colon makes a mapping in YAML, so such text is quoted.
        ('data.system="Be brief: one word."', "data.system", "Be brief: one word."),
        ("data.system=a=b", "data.system", "a=b"),
        ("data.system=", "data.system", None),
        (" quantize.head = int4", "quantize.head", "int4"),
        ("model='7'", "model", "7"),
    ],
)
def test_set_reads_its_value_as_a_person_means_it(override: str, place: str, value: Any) -> None:
    at: Any = load_recipe(None, ["model=x", override]).recipe
    for part in place.split("."):
        at = getattr(at, part)
    assert at == value
    assert type(at) is type(value)


def test_set_wins_over_the_file_and_the_last_over_the_first(tmp_path: Path) -> None:
    path = write(tmp_path, "model: x\ntraining: {max_steps: 1, seed: 5}\ntargets: cpu-int8\n")
    recipe = load_recipe(path, ["training.max_steps=2", "training.max_steps=3", "targets=[a, b]"])
    assert (recipe.recipe.training.max_steps, recipe.recipe.training.seed) == (3, 5)
    assert [target.name for target in recipe.recipe.targets] == ["a", "b"]
    assert recipe.verbatim == path.read_text()
    assert load_recipe(path).recipe.targets[0].name == "cpu-int8"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.max_steps", "--set training.max_steps: write it as key=value"),
        ("=3", "--set =3: write it as key=value"),
        ("model.name=x", "--set model.name=x: model is not a mapping in this recipe"),
        ("targets.0.name=x", "--set targets.0.name=x: targets is not a mapping in this recipe"),
        ("training.max_step=3", "training.max_step: no such key; did you mean max_steps?"),
        ("training.learning_rate=nan", "training.learning_rate: "),
        ("training.learning_rate=fast", "training.learning_rate: "),
    ],
)
def test_set_that_cannot_be_applied(tmp_path: Path, override: str, message: str) -> None:
    path = write(tmp_path, "model: x\ntargets: [a]\n")
    with pytest.raises(InputError) as caught:
        load_recipe(path, [override])
    assert message in str(caught.value)


def test_recipes_do_not_change_once_loaded() -> None:
    recipe = load_recipe(None, ["model=x"]).recipe
    with pytest.raises(ValidationError):
        recipe.training.max_steps = 3  # type: ignore[misc]


def test_digest_is_of_what_the_recipe_means(tmp_path: Path) -> None:
    short = load_recipe(write(tmp_path, "model: x\n"))
    spelled = load_recipe(write(tmp_path, "# the same\nmodel: 'x'\nmerge: {base: dequantized}\n"))
    other = load_recipe(write(tmp_path, "model: x\nmerge: {base: original}\n"))
    assert short.digest() == spelled.digest() != other.digest()


def test_schema_covers_every_option_with_its_help() -> None:
    schema = json_schema()
    definitions = schema["$defs"]
    found = sections()
    assert set(found) == {
        *(
            "",
            "data",
            "answer",
            "method",
            "adapters",
            "combine",
            "training",
            "merge",
            "quantize",
            "quantize.calibration",
            "targets",
            "targets.quantize",
            "gates",
        )
    }
    for place, model in found.items():
        part = definitions[model.__name__] if place else schema
        assert set(part["properties"]) == set(model.model_fields)
        assert part["additionalProperties"] is False
        for name, field in model.model_fields.items():
            if not isinstance(field.annotation, type) or not issubclass(
                field.annotation, BaseModel
            ):
                assert field.description, f"{place}.{name} has no help"
                assert part["properties"][name]["description"] == field.description
    assert schema["required"] == ["model"]
    assert schema["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_use_only_keys_of_the_schema(path: Path) -> None:
    schema = json_schema()

    def check(value: Any, part: dict[str, Any]) -> None:
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]
        if isinstance(value, dict) and "properties" in part:
            for key, inner in value.items():
                check(inner, part["properties"][key])

    check(yaml.safe_load(path.read_text()), schema)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        *((path.read_text(encoding="utf-8"), True) for path in SHIPPED),
        ("model: m\ntargets: cpu-int4", True),
        ("model: m\ntargets: [cpu-int4, {name: mine, like: cpu-int4}]", True),
        ("model: m\nadapter: one", True),
        ("model: m\nadapter: [one, {path: two, weight: 0.5}]", True),
        ("model: m\nquantize: {max_bytes: 105MB}", True),
        ("model: m\nquantize: {max_bytes: 105000000}", True),
        ("model: m\nquantize: {max_bytes: a lot}", False),
        ("model: m\ntargets: []", False),
        ("model: m\ntargets: 3", False),
        ("model: m\nadapter: [{weight: 0.5}]", False),
        ("model: m\nmethod: {rank: 0}", False),
        ("model: m\nmodle: m", False),
    ],
)
def test_editors_that_read_the_schema_and_the_loader_agree(
    tmp_path: Path, text: str, valid: bool
) -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    found = list(jsonschema.Draft202012Validator(schema).iter_errors(yaml.safe_load(text)))
    assert (not found) == valid
    if valid:
        load_recipe(write(tmp_path, text))
    else:
        with pytest.raises(InputError):
            load_recipe(write(tmp_path, text))


def test_a_budget_in_nats_is_a_promise_that_gates_hold() -> None:
    def bounds(budget: float | None, gate: float | None) -> float | None:
        recipe = Recipe.model_validate(
            {
                "model": "m",
                "quantize": {"max_generic_kl": budget},
                "gates": {"max_generic_kl": gate},
            }
        )
        return promised(recipe).max_generic_kl

    assert bounds(None, None) is None
    assert bounds(0.1, None) == 0.1
    assert bounds(None, 0.2) == 0.2
    assert bounds(0.1, 0.2) == bounds(0.2, 0.1) == 0.1


def test_an_adapter_given_replaces_what_would_train_one(tmp_path: Path) -> None:
    """Method and training of the file say nothing then; what is given beside it still counts."""
    path = write(
        tmp_path,
        "model: x\nmethod: {rank: 4}\ntraining: {max_steps: 3}\ncombine: {method: ties}\n"
        "merge: {grid: none}\n",
    )
    loaded = load_recipe(path, ["adapter=a", "merge.save=no"])
    assert loaded.recipe.adapter == "a"
    assert loaded.recipe.merge.grid == "none"
    assert not loaded.recipe.merge.save
    assert loaded.notes == (
        "the adapter given replaces method, training and combine of the recipe",
    )
    assert "method" not in loaded.resolved()
    several = load_recipe(path, ["adapter=[a, b]"])
    assert several.recipe.combine.method == "ties"
    assert several.notes == ("the adapter given replaces method and training of the recipe",)
    assert load_recipe(path, ["adapter=null", "combine={}"]).notes == ()
    assert load_recipe(write(tmp_path, "model: x"), ["adapter=a"]).notes == ()
    with pytest.raises(InputError, match="remove `training`: an adapter is given"):
        load_recipe(path, ["adapter=a", "training.max_steps=5"])
    begun = varied(load_recipe(path, ["combine={}"]), ["adapter=a"])
    assert begun.recipe.adapter == "a"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.max_steps=" + "9" * 5000, "a finite number of 64 bits"),
        ("training.epochs=1e300", "training.epochs: must not be larger than 1e+15"),
        ("training.batch_size=9000000000000000000", "must not be larger than 1e+15"),
        ("training.seed=4294967296", "training.seed: input should be less than or equal to"),
        ("method.alpha=.inf", "a finite number"),
        ("method.alpha=inf", "method.alpha: input should be a finite number"),
        ("data.columns={a: b, a: c}", "a: is given twice"),
        ("method.options=" + "[" * 100, "nested more than"),
        ("method.options.x=&a [*a]", "*a refers to what it is part of"),
        ("method" + ".options" * 100 + "=1", "the key has 101 parts"),
        ("training.seed=1:30", "training.seed: input should be a valid integer"),
        ("method.options={a: !!python/name:os.system x}", "the tag !!python/name"),
    ],
)
def test_overrides_go_through_the_same_reader(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(write(tmp_path, "model: x"), [override])
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("place", ["pipe", "device", "folder", "socket"])
def test_only_a_file_is_read_as_a_recipe(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    if place == "pipe":
        os.mkfifo(path)
    elif place == "device":
        path.symlink_to("/dev/zero")
    elif place == "folder":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    with pytest.raises(InputError, match=f"{place}: cannot be read as a recipe"):
        load_recipe(path)


def test_standard_input_is_read_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for data, message in (
        (b"model: x", None),
        (b'{"model": "x"}', None),
        (b"\xff\xfe", "not UTF-8"),
        (b"model: x" + b" " * (2 << 20), "is longer than"),
        (b"model: x\nmodel: y", "line 2: model: is given twice"),
    ):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        if message is None:
            assert load_recipe(Path("-")).recipe.model == "x"
        else:
            with pytest.raises(InputError, match=message):
                load_recipe(Path("-"))


def test_a_path_that_leads_nowhere_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    loaded = load_recipe(write(tmp_path, "model: loop"))
    assert loaded.resolve("loop").name == "loop"
    assert loaded.resolve("~nobody-of-that-name/x").name == "x"
