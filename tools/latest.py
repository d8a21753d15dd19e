"""The tests against the newest release of every dependency, and what they broke: ``make latest``.

A virtual environment beside the pinned one gets the package without ``constraints.txt`` and without the upper
bounds of ``pyproject.toml``. The tests of ``tests/compat`` run first, then the other fast ones. What is said at
the end: which libraries are not at their pins, and which tests failed. The exit status is 1 where one did.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("all", "dev")
COMPAT = "tests/compat"
FAST = (
    *("-m", "not real", f"--ignore={COMPAT}"),
    *("-n", "logical", "--maxprocesses", "8", "--dist", "loadfile"),
)
_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)(?P<extras>\[[^\]]*\])?(?P<bounds>[^;]*)(?P<when>;.*)?"
)


def requirements(extras: Iterable[str]) -> list[str]:
    """What the package and some of its extras need, with lower bounds alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, None] = {}
    waiting = [*project["dependencies"]]
    for extra in extras:
        waiting += project["optional-dependencies"][extra]
    for text in waiting:
        match = _REQUIREMENT.fullmatch(text.strip())
        if match is None:
            raise SystemExit(
                f"pyproject.toml: {text!r} is no requirement that tools/latest.py can read"
            )
        if match["name"] == project["name"]:
            more = (match["extras"] or "[]")[1:-1].split(",")
            found |= dict.fromkeys(requirements(name.strip() for name in more))
            continue
        bounds = [one.strip() for one in match["bounds"].split(",")]
        kept = ",".join(one for one in bounds if one.startswith((">", "!=")))
        found[f"{match['name']}{match['extras'] or ''}{kept}{match['when'] or ''}"] = None
    return list(found)


def normal(name: str) -> str:
    """A library's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    """Versions of ``constraints.txt`` by library."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {normal(name): version.strip() for name, version in pairs}


def install(folder: Path, without_dependencies: Sequence[str]) -> None:
    """Make the environment, or bring it up to date."""
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True)
    pip: list[str | Path] = [
        folder / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    newest = ["--upgrade", "--upgrade-strategy", "eager"]
    subprocess.run([*pip, *newest, *requirements(EXTRAS)], check=True)
    # The package's own bounds would hold the libraries back.
    subprocess.run([*pip, "hatchling", "editables"], check=True)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-e", ROOT], check=True)
    if without_dependencies:
        subprocess.run([*pip, "--no-deps", *without_dependencies], check=True)


def moved(folder: Path) -> list[str]:
    """A line for each library whose version is not its pin, those that pyproject.toml names first."""
    listed = subprocess.run(
        [folder / "bin" / "python", "-m", "pip", "list", "--format=json"],
        check=True,
        capture_output=True,
        text=True,
    )
    there = {normal(one["name"]): one["version"] for one in json.loads(listed.stdout)}
    named = {normal(re.split(r"[\[<>=!~; ]", one)[0]) for one in requirements(EXTRAS)}
    changed = {
        name: f"{pin} -> {there[name]}"
        for name, pin in pins().items()
        if name in there and there[name].partition("+")[0] != pin
    }
    return [
        f"{name} {changed[name]}"
        for name in sorted(changed, key=lambda one: (one not in named, one))
    ]


def failures(folder: Path, *arguments: str) -> list[str] | None:
    """A line for each test that failed; None where pytest itself did."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        done = subprocess.run(
            [folder / "bin" / "python", "-m", "pytest", f"--junitxml={report}", *arguments],
            check=False,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        if not report.is_file():
            return None
        found = [
            f"{case.get('classname', '')}::{case.get('name', '')}: {_first_line(problem.get('message'))}"
            for case in ElementTree.parse(report).iter("testcase")
            for problem in case
            if problem.tag in ("failure", "error")
        ]
    return None if done.returncode and not found else found


def _first_line(message: str | None) -> str:
    return ((message or "").splitlines() or [""])[0]


def main() -> int:
    """Install, test, and say what broke."""
    read = argparse.ArgumentParser(description=__doc__)
    read.add_argument("folder", type=Path, help="the virtual environment")
    read.add_argument(
        "--tests", nargs="*", help=f"run these alone (default: {COMPAT}, then the fast ones)"
    )
    read.add_argument(
        "--no-deps", nargs="*", default=[], help="packages installed without what they need"
    )
    given = read.parse_args()
    install(given.folder, given.no_deps)
    runs = [given.tests] if given.tests else [[COMPAT], list(FAST)]
    broken: list[str] = []
    for arguments in runs:
        found = failures(given.folder, *arguments)
        broken += [f"pytest {' '.join(arguments)} did not run"] if found is None else found
    changed = moved(given.folder)
    print(f"\n{len(changed)} libraries are not at their pin:", *changed, sep="\n  ")
    print(f"\n{len(broken)} tests failed:" if broken else "\nNothing broke.", *broken, sep="\n  ")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
