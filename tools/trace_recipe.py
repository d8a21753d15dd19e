"""The way of a recipe through the code, from ``edgepeft build RECIPE --dry-run`` to the printed plan.

    python tools/trace_recipe.py RECIPE [--json]

How it counts. A *place* is a function in one of our packages that was called with the recipe: the loaded file,
the recipe or one of its sections, or a collection of them. Apart from these it lists the places that were called
with an object whose attributes hold one, directly or one step further, as a resolved recipe or a plan does. A
method's own object counts only if it is the recipe, a section or a dataclass that holds one: a class that keeps
the recipe for its methods is entered once, at its constructor. Lambdas, comprehensions and generated methods are
no places.

*Files* and *folders* are those of the places. *Returns* follow the places in the order in which each was first
entered: how often the next one lies in a file that was left before. *Calls* count every entry into a place.

*Reads* are the files outside of the program that were opened meanwhile by Python's own ``open`` (a library in
Rust or C++ opens unseen), and how often. The digest cache starts empty.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = tuple(f"{ROOT / package}{os.sep}" for package in ("edgepeft", "exporters", "tui"))
_PROGRAM = (
    *PACKAGES,
    *{os.path.realpath(place) + os.sep for place in (sys.prefix, sys.base_prefix)},
)
_STEPS = 2
"""How far from an argument a recipe is looked for."""
_MANY = 50
"""Longer collections are data, not sections."""


@dataclass(frozen=True)
class Place:
    """A function that a recipe was handed to; ``depth`` is how many such functions called it in turn, ``held``
    says whether it was only ever inside of another object.
    """

    file: str
    function: str
    depth: int
    held: bool


@dataclass
class Trace:
    """What was seen of one recipe's way."""

    places: list[Place] = field(default_factory=list)
    calls: int = 0
    reads: Counter[str] = field(default_factory=Counter)

    @property
    def itself(self) -> Trace:
        """The same of the recipe itself, without the places that got what holds it."""
        return Trace([place for place in self.places if not place.held], self.calls, self.reads)

    @property
    def files(self) -> list[str]:
        """The places' files, in the order of their first entry."""
        return list(dict.fromkeys(place.file for place in self.places))

    @property
    def folders(self) -> list[str]:
        """The folders of these files."""
        return list(dict.fromkeys(str(Path(file).parent) for file in self.files))

    @property
    def returns(self) -> int:
        """How often the next place lies in a file that was left before."""
        left: set[str] = set()
        count, here = 0, ""
        for place in self.places:
            if place.file != here:
                count += place.file in left
                left.add(here)
                here = place.file
        return count

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            **{name: one.counts() for name, one in (("itself", self.itself), ("all", self))},
            "calls": self.calls,
            "reads": dict(self.reads.most_common()),
            "way": [dataclasses.asdict(place) for place in self.places],
        }

    def counts(self) -> dict[str, int]:
        """Places, files, folders and returns."""
        return {
            "places": len(self.places),
            "files": len(self.files),
            "folders": len(self.folders),
            "returns": self.returns,
        }


class Tracer:
    """Watches calls and opened files while it is entered; a context manager."""

    def __init__(self) -> None:
        from edgepeft.config.loader import RecipeFile
        from edgepeft.config.sections import Section

        self.trace = Trace()
        self._recipe_types = (RecipeFile, Section)
        self._seen: dict[tuple[str, str], int] = {}
        self._ours: dict[CodeType, bool] = {}
        self._stack: list[bool] = []
        self._watching = False
        # An audit hook can't be taken off again.
        sys.addaudithook(self._audited)

    def __enter__(self) -> Trace:
        self._watching = True
        sys.setprofile(self._profiled)
        return self.trace

    def __exit__(self, *details: object) -> None:
        sys.setprofile(None)
        self._watching = False

    def _profiled(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event not in ("call", "return") or not self._is_ours(code):
            return
        if event == "return":
            if self._stack:
                self._stack.pop()
            return
        given = self._given(frame)
        itself = any(self._holds(value, 0) for value in given)
        entered = itself or any(self._holds(value, _STEPS) for value in given)
        if entered:
            place = (os.path.relpath(code.co_filename, ROOT), code.co_qualname)
            self.trace.calls += 1
            if place not in self._seen:
                self._seen[place] = len(self.trace.places)
                self.trace.places.append(Place(*place, depth=sum(self._stack), held=not itself))
            elif itself:
                at = self._seen[place]
                self.trace.places[at] = dataclasses.replace(self.trace.places[at], held=False)
        self._stack.append(entered)

    def _is_ours(self, code: CodeType) -> bool:
        if code not in self._ours:
            self._ours[code] = code.co_filename.startswith(PACKAGES)
        return self._ours[code]

    def _given(self, frame: FrameType) -> list[object]:
        """The arguments of a call that may be or hold a recipe."""
        code = frame.f_code
        if code.co_name.startswith("<"):
            return []
        count = code.co_argcount + code.co_kwonlyargcount
        # *args and **kwargs come after the named ones.
        count += bool(code.co_flags & 0x04) + bool(code.co_flags & 0x08)
        given = {name: frame.f_locals.get(name) for name in code.co_varnames[:count]}
        own = given.pop("self", None)
        if own is not None and (self._is_recipe(own) or dataclasses.is_dataclass(own)):
            given["self"] = own
        return list(given.values())

    def _is_recipe(self, value: object) -> bool:
        return isinstance(value, self._recipe_types)

    def _holds(self, value: object, steps: int) -> bool:
        """Whether a value is a recipe, or holds one within so many steps."""
        if self._is_recipe(value):
            return True
        if isinstance(value, dict | list | tuple):
            items = value.values() if isinstance(value, dict) else value
            return len(value) <= _MANY and any(map(self._is_recipe, items))
        if (
            not steps
            or isinstance(value, type)
            or not type(value).__module__.startswith("edgepeft")
        ):
            return False
        return any(
            self._holds(inner, steps - 1) for inner in getattr(value, "__dict__", {}).values()
        )

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not self._watching or not isinstance(arguments[0], str):
            return
        path = os.path.realpath(arguments[0])
        flags = arguments[2]
        outside = not path.startswith((*_PROGRAM, "/proc/", "/sys/", "/dev/", "/usr/", "/etc/"))
        if outside and not flags & (os.O_WRONLY | os.O_RDWR) and Path(path).is_file():
            self.trace.reads[path] += 1


def trace(recipe: Path) -> Trace:
    """Plan a recipe as ``build --dry-run`` does and watch. Raises RuntimeError where planning fails."""
    from typer.testing import CliRunner

    with tempfile.TemporaryDirectory() as own:
        os.environ.update(EDGEPEFT_CACHE=f"{own}/cache", EDGEPEFT_STATE=f"{own}/state")
        from edgepeft.cli.commands import app

        command = ["build", str(recipe), "--dry-run", "--json", "--out", f"{own}/run"]
        with Tracer() as watched:
            done = CliRunner().invoke(app, command)
        if done.exit_code:
            raise RuntimeError(f"{recipe}: {done.exception or done.output}")
        for path in [path for path in watched.reads if path.startswith(os.path.realpath(own))]:
            del watched.reads[path]
    return watched


def main() -> None:
    """Print the way of the recipe that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--json", action="store_true", dest="as_json")
    chosen = parser.parse_args()
    found = trace(chosen.recipe)
    if chosen.as_json:
        print(json.dumps(found.as_dict(), indent=1))
        return
    here = ""
    for place in found.places:
        shown = place.file if place.file != here else ""
        print(f"{shown:42} {'  ' * place.depth}{place.function}{' (held)' if place.held else ''}")
        here = place.file
    print()
    for name, one in (("the recipe itself", found.itself), ("with what holds it", found)):
        counts = ", ".join(f"{count} {what}" for what, count in one.counts().items())
        print(f"{name}: {counts}")
    for path, count in found.reads.most_common():
        print(f"read {count} times: {path}")


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "exporters"), str(ROOT / "tui")]
    main()
