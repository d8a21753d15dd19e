"""What a recipe may say of a method, held against its declaration before anything is loaded."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from enum import Enum
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from edgepeft.adapters.method import TrainingMethod
from edgepeft.adapters.methods import NOT_MERGEABLE, all_methods, check_method, find_method
from edgepeft.config.sections import Method
from edgepeft.errors import InputError


def settings(**changes: Any) -> Method:
    return Method.model_validate({"name": "lora", **changes})


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"name": "lara"}, r"method\.name: lara: no such method; did you mean lora\?"),
        ({"name": "prefix-tuning"}, r"method\.name: .* did you mean prefix_tuning\?"),
        ({"name": "cartridge"}, r"method\.name: a cartridge can't be merged .* prompt_tuning"),
        ({"name": "p_tuning", "rank": 8}, r"method\.rank: p_tuning has no rank"),
        (
            {"name": "prompt_tuning", "target_modules": ["q_proj"]},
            r"target_modules: prompt_tuning adapts no modules",
        ),
        (
            {"name": "prompt_tuning", "options": {"num_virtual_tokens": 0}},
            r"num_virtual_tokens: must be 1 or more",
        ),
        (
            {"name": "prompt_tuning", "options": {"num_virtual_tokens": 5000}},
            r"num_virtual_tokens: must be 1024 or less",
        ),
        (
            {"name": "prompt_tuning", "options": {"prompt_tuning_init": "TEXT"}},
            r"give it as prompt_tuning_init_text",
        ),
        (
            {"name": "prompt_tuning", "options": {"prompt_tuning_init_text": "Answer"}},
            r"is read with prompt_tuning_init: TEXT alone",
        ),
        ({"name": "ia3", "rank": 8}, r"method\.rank: ia3 has no rank"),
        ({"name": "vera", "alpha": 8}, r"method\.alpha: vera has no alpha; it has rank, dropout"),
        ({"name": "loha", "grid": "nf4"}, r"method\.grid: loha does not support grid nf4; .* none"),
        ({"name": "dora", "grid": "int8"}, r"dora does not support grid int8"),
        ({"options": {"use_dora": True}, "grid": "int8"}, r"PEFT can't train DoRA on int8"),
        (
            {"options": {"use_rsloar": True}},
            r"use_rsloar: no such lora option; did you mean use_rs",
        ),
        ({"options": {"use_rslora": "yes"}}, r"options\.use_rslora: must be true or false"),
        ({"options": {"rank_pattern": [1]}}, r"options\.rank_pattern: must be a mapping"),
        ({"options": {"init_lora_weights": "pisa"}}, r"must be one of gaussian, orthogonal"),
        ({"options": {"init_lora_weights": "loftq"}}, r"loftq needs a quantized base"),
        (
            {"options": {"init_lora_weights": "pissa", "use_dora": True}},
            r"init_lora_weights: pissa and use_dora exclude each other",
        ),
        ({"name": "dora", "options": {"init_lora_weights": "olora"}}, r"exclude each other"),
        (
            {"options": {"init_lora_weights": "olora", "rank_pattern": {"q_proj": 2}}},
            r"olora needs one rank for all modules",
        ),
        (
            {"name": "adalora", "options": {"tinit": True}},
            r"options\.tinit: must be a whole number",
        ),
        ({"name": "adalora", "options": {"beta1": float("nan")}}, r"beta1: must be a finite"),
    ],
)
def test_what_cannot_be_right_is_said_before_any_work(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        check_method(settings(**changes))


def test_common_settings_have_defaults_of_the_method() -> None:
    assert find_method("lora").common(settings()) == {"rank": 16, "alpha": 32.0, "dropout": 0.0}
    assert find_method("vera").common(settings()) == {"rank": 256, "dropout": 0.0}
    assert find_method("vera").common(settings(rank=8))["rank"] == 8
    assert find_method("ia3").common(settings()) == {}


def test_arguments_are_pefts() -> None:
    loha = find_method("loha").arguments(settings(rank=4, options={"rank_dropout": 0.1}), 10)
    assert loha == {"r": 4, "alpha": 32.0, "rank_dropout": 0.1}
    assert find_method("dora").arguments(settings(), 10)["use_dora"] is True
    adalora = find_method("adalora").arguments(settings(rank=8, options={"tfinal": 2}), 30)
    assert (adalora["target_r"], adalora["init_r"]) == (8, 12)
    assert (adalora["tinit"], adalora["tfinal"], adalora["total_step"]) == (3, 2, 30)


def configurations() -> Iterator[tuple[TrainingMethod, type[Any]]]:
    """Every method with PEFT's configuration of it."""
    pytest.importorskip("peft")
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    from edgepeft.adapters.bottleneck import register

    register()
    for method in all_methods().values():
        if method.peft_type is not None:
            yield method, PEFT_TYPE_TO_CONFIG_MAPPING[method.peft_type]


def test_every_option_is_one_that_peft_has() -> None:
    for method, config in configurations():
        known = {field.name for field in dataclasses.fields(config)}
        wanted = {*method.names.values(), *method.options, *method.fixed}
        assert wanted <= known, (method.name, wanted - known)


def taken(annotation: Any) -> tuple[set[type], set[str]]:
    """The types and the words that an annotation of PEFT's allows."""
    if get_origin(annotation) is Literal:
        words = {word for word in get_args(annotation) if isinstance(word, str)}
        return {type(word) for word in get_args(annotation)}, words
    if get_origin(annotation) in (Union, UnionType):
        parts = [taken(part) for part in get_args(annotation)]
        return set().union(*(types for types, _ in parts)), set().union(*(w for _, w in parts))
    kind = get_origin(annotation) or annotation
    if issubclass(kind, Enum):
        return {str}, {str(one.value) for one in kind}
    return {kind, int} if kind is float else {kind}, set()


WIDER = {
    "delora_lambda": "a factor, which PEFT calls a whole number",
    "layers_pattern": "PEFT's one matcher takes a list for every method, and some say so",
}
"""Options that take more than PEFT's annotations say, and why."""
PATTERNED = {f"pissa_niter_{number}" for number in range(1, 65)}
"""Words of which PEFT states the form alone."""


def test_options_take_what_peft_takes() -> None:
    for method, config in configurations():
        hints = get_type_hints(config)
        defaults = {field.name: field.default for field in dataclasses.fields(config)}
        for key, option in method.options.items():
            types, words = taken(hints[key])
            if key not in WIDER:
                assert set(option.types) <= types, (method.name, key, hints[key])
            assert not words or set(option.choices) <= words | PATTERNED, (method.name, key, words)
            default = defaults[key]
            if isinstance(default, (bool, int, float, str)):
                default = default.value if isinstance(default, Enum) else default
                assert option.refusal(default) is None, (method.name, key, default)


def test_common_settings_are_numbers_of_peft() -> None:
    for method, config in configurations():
        hints = get_type_hints(config)
        for name in method.names.values():
            assert taken(hints[name])[0] & {int, float}, (method.name, name)


def test_methods_are_listed_and_checked_without_heavy_libraries() -> None:
    code = (
        "import sys; from edgepeft.adapters.methods import all_methods, find_method\n"
        "from edgepeft.config.sections import Method\n"
        "for name in all_methods(): find_method(name).check(Method(name=name))\n"
        "find_method('adalora').arguments(Method(name='adalora'), 10)\n"
        "sys.exit(', '.join({'torch', 'peft', 'transformers', 'numpy'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "option", "value", "match"),
    [
        ("boft", "boft_block_size", "four", "must be a whole number"),
        ("oft", "coft", 1, "must be true or false"),
        ("waveft", "scaling", [25], "must be a number"),
        ("c3a", "block_size_pattern", 8, "must be a mapping"),
        ("road", "variant", "road_3", "must be one of road_1, road_2, road_4"),
        ("miss", "init_weights", "bats", "must be one of bat, mini"),
    ],
)
def test_options_of_the_further_methods_have_types(
    name: str, option: str, value: Any, match: str
) -> None:
    with pytest.raises(InputError, match=rf"method\.options\.{option}: {match}"):
        check_method(settings(name=name, options={option: value}))


def test_every_type_of_peft_is_a_method_or_has_a_reason() -> None:
    pytest.importorskip("peft")
    from peft import PeftType

    merging = {method.peft_type for method in all_methods().values()}
    assert {kind.value for kind in PeftType} <= merging | set(NOT_MERGEABLE)
    assert not merging & set(NOT_MERGEABLE)
