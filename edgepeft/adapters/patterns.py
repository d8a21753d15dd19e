"""Regular expressions of an adapter's configuration, run with a deadline.

PEFT matches what a configuration says of modules with Python's ``re``, whose engine backtracks: a pattern of a
few characters can take longer than anyone waits. Patterns that could are run in a process that is stopped after
``SECONDS``, over the very names that they are for; what came back in time is safe to hand on. The engine is the
same, so that a pattern means here what it means to PEFT.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from edgepeft.errors import InputError, one_line

SECONDS = 5.0
"""What all patterns of a configuration may take together."""
LONGEST = 10_000
"""Characters that one pattern may have."""
_RISKY = re.compile(r"[*+?{(]")
_FEW = 64

BY_PATTERN = {
    "rank_pattern": r"(.*\.)?({})$",
    "alpha_pattern": r"(.*\.)?({})$",
    "lambda_pattern": r"(.*\.)?({})$",
    "n_frequency_pattern": r".*\.{}$",
    "block_size_pattern": r".*\.{}$",
}
"""Mappings from a pattern to a module's own value, and how PEFT matches a key with a module's name."""
RANKED = ("rank_pattern", "alpha_pattern", "lambda_pattern")
"""Those whose keys may be a module's whole name, so that many can be made one."""
_WHOLE = ("target_modules", "exclude_modules", "feedforward_modules")
_ANY = {
    "modules_to_save": r"(^|.*\.){}($|\..*)",
    "layers_pattern": r"(?:^|.*?\.){}\.(?P<idx>\d+)\.",
}
_ALL_LINEAR = "all-linear"

# Answers each question with the index of the first of its patterns that matches each name, or -1.
_PROGRAM = """
import json, re, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))
except (ImportError, ValueError, OSError):
    pass
asked = json.load(sys.stdin)
answers = []
for patterns, full in asked["questions"]:
    compiled = []
    for pattern in patterns:
        try:
            one = re.compile(pattern)
            compiled.append(one.fullmatch if full else one.match)
        except (re.error, RecursionError, OverflowError, MemoryError) as error:
            json.dump({"pattern": pattern, "error": str(error)}, sys.stdout)
            sys.exit()
    answers.append(
        [next((i for i, one in enumerate(compiled) if one(name)), -1) for name in asked["names"]]
    )
json.dump({"answers": answers}, sys.stdout)
"""


class Question(NamedTuple):
    """Patterns of which the first that matches a name is wanted, from its start or, with ``full``, as a whole."""

    patterns: Sequence[str]
    full: bool = False


def first_matches(
    questions: Sequence[Question], names: Sequence[str], where: str
) -> list[list[int]]:
    """For each question the index of the first pattern that matches, for each of ``names``; or -1.

    ``where`` begins an error: it names the file and the key. Raises InputError for what is no pattern, and for
    patterns that take too long.
    """
    everything = [pattern for question in questions for pattern in question.patterns]
    long = next((pattern for pattern in everything if len(pattern) > LONGEST), None)
    if long is not None:
        raise InputError(
            f"{where}: a pattern of {len(long)} characters; at most {LONGEST} are read"
        )
    if len(everything) <= _FEW and not any(map(_risky, everything)):
        return [_matched_here(question, names, where) for question in questions]
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            input=json.dumps({"questions": questions, "names": names}),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
        said = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise InputError(
            f"{where}: matching its patterns with the names of modules takes more than {SECONDS:.0f} s; name the "
            "modules in a list"
        ) from None
    except (subprocess.CalledProcessError, ValueError) as error:
        raise InputError(
            f"{where}: its patterns can't be matched ({one_line(error)[:200]})"
        ) from None
    if "error" in said:
        raise _no_pattern(said["pattern"], said["error"], where)
    answers: list[list[int]] = said["answers"]
    return answers


def _risky(pattern: str) -> bool:
    """Whether matching may take more than a look at each character; PEFT's own wrapping aside."""
    for form in (*BY_PATTERN.values(), *_ANY.values()):
        start, _, end = form.partition("{}")
        if pattern.startswith(start) and pattern.endswith(end):
            pattern = pattern[len(start) : len(pattern) - len(end)]
            break
    return bool(_RISKY.search(pattern))


def _matched_here(question: Question, names: Sequence[str], where: str) -> list[int]:
    compiled = []
    for pattern in question.patterns:
        try:
            one = re.compile(pattern)
        except re.error as error:
            raise _no_pattern(pattern, error, where) from None
        compiled.append(one.fullmatch if question.full else one.match)
    return [next((i for i, one in enumerate(compiled) if one(name)), -1) for name in names]


def _no_pattern(pattern: str, error: object, where: str) -> InputError:
    return InputError(f"{where}: {pattern[:80]!r} is no regular expression ({one_line(error)})")


def check_patterns(config: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    """Run every pattern of an adapter's configuration over a model's module names, as PEFT will.

    Raises InputError where one is none, or all together take too long.
    """
    questions: list[Question] = []
    for key in _WHOLE:
        value = config.get(key)
        if isinstance(value, str) and value.lower() != _ALL_LINEAR:
            questions.append(Question([value], full=True))
    for key, form in _ANY.items():
        value = config.get(key) or ()
        for one in [value] if isinstance(value, str) else value:
            questions.append(Question([form.replace("{}", str(one))]))
    for key, form in BY_PATTERN.items():
        questions.append(Question([form.replace("{}", str(one)) for one in config.get(key) or ()]))
    first_matches(questions, names, where)


def own_values(
    pattern: Mapping[str, Any] | None, key: str, names: Sequence[str], where: str
) -> dict[str, Any]:
    """The values that modules get from a mapping such as ``rank_pattern``: PEFT takes the first key that matches.

    Modules that no key matches are left out. Raises InputError as ``first_matches``.
    """
    if not pattern:
        return {}
    values = list(pattern.values())
    form = BY_PATTERN[key]
    asked = Question([form.replace("{}", one) for one in pattern])
    (found,) = first_matches([asked], names, f"{where}: {key}")
    return {name: values[index] for name, index in zip(names, found, strict=True) if index >= 0}


def by_value(values: Mapping[str, Any]) -> dict[str, Any]:
    """``own_values`` as a mapping that PEFT reads: one pattern of all modules that share a value.

    PEFT walks through the keys for every module and compiles each anew beyond a few hundred of them.
    """
    groups: dict[Any, list[str]] = {}
    for name, value in values.items():
        groups.setdefault(value, []).append(re.escape(name))
    return {f"(?:{'|'.join(names)})": value for value, names in groups.items()}


def naming_some(entries: Sequence[str], names: Sequence[str]) -> list[str]:
    """Those of ``entries`` that are a module's name or its end, as PEFT compares the entries of a list."""
    ends = {end for name in names for end in _ends(name)}
    return [entry for entry in entries if entry in ends]


def is_named(name: str, entries: frozenset[str] | set[str]) -> bool:
    """Whether a list of names or ends of names, as a set, names a module."""
    return any(end in entries for end in _ends(name))


def _ends(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[index:]) for index in range(len(parts))]
