"""Patterns of an adapter's configuration: the same matches as PEFT's, and an end in seconds."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace
from typing import Any

import pytest

from edgepeft.adapters.patterns import (
    BY_PATTERN,
    LONGEST,
    SECONDS,
    Question,
    by_value,
    check_patterns,
    first_matches,
    is_named,
    naming_some,
    own_values,
)
from edgepeft.errors import InputError

NAMES = [
    f"model.layers.{layer}.{part}"
    for layer in range(12)
    for part in ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj", "mlp")
] + ["lm_head", "model.embed_tokens", "model.norm"]
EVIL = r"([a-z0-9._]+)+!"

PATTERNS = [
    "q_proj",
    "layers.1.self_attn.q_proj",
    "model.layers.1.self_attn.q_proj",
    r".*\.(q_proj|v_proj)",
    r".*layers\.(1|3)\..*_proj",
    r"(?!.*down).*_proj",
    r"layers\.\d+\.mlp",
    "[qv]_proj",
    "q.proj",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_mean_what_they_mean_to_re(pattern: str) -> None:
    wanted = [0 if re.fullmatch(pattern, name) else -1 for name in NAMES]
    assert first_matches([Question([pattern], full=True)], NAMES, "x") == [wanted]
    started = [0 if re.match(pattern, name) else -1 for name in NAMES]
    assert first_matches([Question([pattern])], NAMES, "x") == [started]


def test_a_pattern_for_letters_of_any_case() -> None:
    """Flags stand at the beginning, where nothing may be put before them."""
    (found,) = first_matches([Question([r"(?i).*\.Q_PROJ"], full=True)], NAMES, "x")
    assert {name for name, index in zip(NAMES, found, strict=True) if not index} == {
        name for name in NAMES if name.endswith("q_proj")
    }


@pytest.mark.parametrize("key", BY_PATTERN)
def test_values_of_modules_are_those_that_peft_finds(key: str) -> None:
    peft = pytest.importorskip("peft.utils.other")
    pattern = {one: index for index, one in enumerate(PATTERNS)}
    found = own_values(pattern, key, NAMES, "x")
    if key in ("rank_pattern", "alpha_pattern", "lambda_pattern"):
        wanted = {name: pattern.get(peft.get_pattern_key(list(pattern), name)) for name in NAMES}
        assert found == {name: value for name, value in wanted.items() if value is not None}
        # Handed on to PEFT in fewer patterns, they are the same again.
        assert own_values(by_value(found), key, NAMES, "x") == found
        assert len(by_value(found)) == len(set(found.values()))
    else:
        wanted = {
            name: next((i for one, i in pattern.items() if re.match(rf".*\.{one}$", name)), None)
            for name in NAMES
        }
        assert found == {name: value for name, value in wanted.items() if value is not None}


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": EVIL},
        {"exclude_modules": EVIL},
        {"feedforward_modules": EVIL},
        {"modules_to_save": [EVIL]},
        {"layers_pattern": [EVIL]},
        {"rank_pattern": {EVIL: 4}},
        {"alpha_pattern": {EVIL: 4}},
        {"n_frequency_pattern": {EVIL: 4}},
        {"block_size_pattern": {EVIL: 4}},
        {"target_modules": r"(.*)*(.*)*(.*)*\d!"},
        {"target_modules": "(|.)" * 60 + "!"},
    ],
)
def test_patterns_that_backtrack_for_ever_end(config: dict[str, Any]) -> None:
    started = time.monotonic()
    with pytest.raises(InputError, match=r"^here: matching its patterns .* takes more than"):
        check_patterns(config, NAMES, "here")
    assert time.monotonic() - started < SECONDS + 10


@pytest.mark.parametrize(
    ("pattern", "match"),
    [
        ("(q_proj", r"'\(q_proj' is no regular expression"),
        ("[", r"'\[' is no regular expression"),
        ("(?P<x>a)(?P<x>b)", "is no regular expression"),
        ("x" * (LONGEST + 1), f"at most {LONGEST} are read"),
        ("(" * 5000 + ")" * 5000, "(is no regular expression|can't be matched)"),
    ],
)
def test_what_is_no_pattern_is_named(pattern: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        check_patterns({"target_modules": pattern}, ["a" * 60, *NAMES], "here")


def test_lists_of_names_need_no_engine() -> None:
    """A million entries are looked up, not compared one by one."""
    entries = [f"layers.{number}.nothing" for number in range(1_000_000)]
    started = time.process_time()
    assert naming_some([*entries, "q_proj", "layers.1.mlp"], NAMES) == ["q_proj", "layers.1.mlp"]
    assert is_named("model.layers.0.self_attn.q_proj", {"q_proj"})
    assert not is_named("model.layers.0.self_attn.q_proj", {"proj", "_proj"})
    assert time.process_time() - started < 5


def test_pefts_engine_is_the_one_that_patterns_are_run_with() -> None:
    """What decides which modules are adapted is ``re``; another engine there would match other names."""
    peft = pytest.importorskip("peft.tuners.tuners_utils")
    for pattern in PATTERNS:
        config = SimpleNamespace(target_modules=pattern, exclude_modules=None, modules_to_save=None)
        (found,) = first_matches([Question([pattern], full=True)], NAMES, "x")
        theirs = [bool(peft.check_target_module_exists(config, name)) for name in NAMES]
        assert [index == 0 for index in found] == theirs
