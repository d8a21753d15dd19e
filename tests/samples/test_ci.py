"""Samples for build servers: their structure, and every command in them by the parser of the command itself."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.typed import parse_line

ROOT = Path(__file__).resolve().parents[2]
CI = ROOT / "samples" / "ci"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCKERFILES = ("build.Dockerfile", "run.Dockerfile")
INSTRUCTIONS = {
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL"),
    *("RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
}


def read_yaml(name: str) -> dict[Any, Any]:
    read = yaml.safe_load((CI / name).read_text(encoding="utf-8"))
    assert isinstance(read, dict)
    return read


def script_lines(script: str) -> Iterator[str]:
    """The commands of a script, one a line."""
    for line in script.replace("\\\n", " ").splitlines():
        if line.strip() and not line.strip().startswith("#"):
            yield " ".join(line.split())


def check_command(line: str) -> dict[str, Any]:
    """Hold one command of a script to what there is: options, extras, files of the repository."""
    words = shlex.split(line)
    if words[:4] == ["python", "-m", "pip", "install"]:
        check_extras(line)
        return {}
    if words[0] != "edgepeft":
        assert words[0] == "mkdir", line
        return {}
    values = parse_line(line)
    recipe = values.get("recipe")
    assert recipe is None or (ROOT / recipe).is_file(), line
    return values


def check_extras(line: str) -> None:
    (named,) = re.findall(r"\[([a-z,-]+)\]", line)
    assert set(named.split(",")) <= set(PROJECT["optional-dependencies"]), line
    (constraints,) = re.findall(r"-c (\S+)", line)
    assert (ROOT / Path(constraints).name).is_file(), line


def test_the_workflow_builds_gates_and_keeps_what_was_made() -> None:
    workflow = read_yaml("github-actions.yml")
    # YAML 1.1 reads the key `on` as true.
    assert set(workflow) == {"name", True, "permissions", "concurrency", "jobs"}
    assert {"push", "pull_request", "workflow_dispatch"} == set(workflow[True])
    (job,) = workflow["jobs"].values()
    assert re.fullmatch(r"ubuntu-\d\d\.\d\d", job["runs-on"])
    assert set(job) <= {"runs-on", "timeout-minutes", "env", "steps"}
    built: dict[str, Any] = {}
    for step in job["steps"]:
        assert set(step) <= {"name", "if", "uses", "run", "with", "env"}
        assert ("uses" in step) != ("run" in step), step
        if "uses" in step:
            assert re.fullmatch(
                r"actions/(checkout|setup-python|cache|upload-artifact)@v\d+", step["uses"]
            )
            continue
        for line in script_lines(step["run"]):
            values = check_command(line)
            built = values if line.startswith("edgepeft build") else built
    uses = {step["uses"].partition("@")[0]: step for step in job["steps"] if "uses" in step}
    assert uses["actions/cache"]["with"]["path"] == "~/.cache/huggingface"
    for file in re.findall(r"hashFiles\('([^']+)'\)", uses["actions/cache"]["with"]["key"]):
        assert (ROOT / file).is_file()
    kept = [step for step in job["steps"] if "upload-artifact" in step.get("uses", "")]
    report, bundle = (step["with"]["path"].split() for step in kept)
    assert kept[0]["if"] == "${{ !cancelled() }}"
    assert str(built["junit"]) in report
    assert str(built["summary"]) == "$GITHUB_STEP_SUMMARY"
    assert bundle == [f"{built['out']}/bundles"]


def test_the_pipeline_builds_gates_and_runs_the_bundle_elsewhere() -> None:
    pipeline = read_yaml("gitlab-ci.yml")
    jobs = {
        name: job for name, job in pipeline.items() if isinstance(job, dict) and "script" in job
    }
    assert set(pipeline) == {"default", "stages", "variables", *jobs}
    assert [job["stage"] for job in jobs.values()] == pipeline["stages"]
    assert_pinned(pipeline["default"]["image"])
    for job in jobs.values():
        assert set(job) <= {"stage", "timeout", "cache", "needs", "script", "artifacts"}
        assert set(job.get("needs", ())) <= set(jobs)
        for file in job["cache"]["key"]["files"]:
            assert (ROOT / file).is_file()
        for script in job["script"]:
            for line in script_lines(script):
                check_command(line)
    bundle, device = jobs["bundle"], jobs["device"]
    (build,) = (line for line in bundle["script"] if line.startswith("edgepeft build"))
    values = parse_line(build)
    artifacts = bundle["artifacts"]
    assert artifacts["when"] == "always"
    assert artifacts["reports"]["junit"] == str(values["junit"])
    assert str(values["summary"].parent) in artifacts["paths"]
    assert f"{values['out']}/bundles" in artifacts["paths"]
    for line in device["script"][1:]:
        assert f"{values['out']}/bundles/" in line
    home = pipeline["variables"]["HF_HOME"].removeprefix("$CI_PROJECT_DIR/")
    assert home in bundle["cache"]["paths"]


def instructions(name: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile with their arguments, lines joined."""
    text = "".join(
        line
        for line in (CI / name).read_text(encoding="utf-8").splitlines(keepends=True)
        if not line.lstrip().startswith("#")
    ).replace("\\\n", " ")
    found = [line.strip().partition(" ") for line in text.splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in found]


def assert_pinned(image: str) -> None:
    assert re.fullmatch(r"python:\d+\.\d+-[a-z-]+", image), image


def exec_form(arguments: str) -> list[str]:
    words = json.loads(arguments)
    assert isinstance(words, list), arguments
    assert all(isinstance(word, str) for word in words), arguments
    return words


@pytest.mark.parametrize("name", DOCKERFILES)
def test_a_dockerfile_is_one_that_docker_accepts(name: str) -> None:
    found = instructions(name)
    assert {word for word, _ in found} <= INSTRUCTIONS
    assert found[0][0] == "FROM"
    stages: list[str] = []
    for word, rest in found:
        if word == "FROM":
            image, *named = rest.split()
            assert_pinned(image)
            assert not named or (named[0] == "AS" and len(named) == 2), rest
            stages.append(named[1] if named else "")
        elif word == "COPY":
            check_copy(rest, stages[:-1])
        elif word in ("ENTRYPOINT", "CMD", "VOLUME"):
            exec_form(rest)
        elif word == "WORKDIR":
            assert rest.startswith("/")
        elif word == "RUN":
            assert "pip" not in rest or "--no-cache-dir" in rest
    last = [rest for word, rest in found if word == "USER"]
    assert last[-1] not in ("root", "0")
    users = " ".join(rest for word, rest in found if word == "RUN")
    assert re.search(rf"useradd .* {last[-1]}\b", users)
    entry = [rest for word, rest in found if word == "ENTRYPOINT"]
    command = [rest for word, rest in found if word == "CMD"]
    words = exec_form(entry[0]) + exec_form(command[0])
    if words != ["edgepeft", "--help"]:
        parse_line(shlex.join(words))
    ignored = (CI / f"{name}.dockerignore").read_text(encoding="utf-8").split()
    sources = {word.split("/")[0] for word in copied(found)}
    assert not sources & set(ignored)


def check_copy(rest: str, earlier: list[str]) -> None:
    words = rest.split()
    if words[0].startswith("--from="):
        assert words[0].removeprefix("--from=") in earlier, rest
        return
    *sources, target = words
    assert sources
    for source in sources:
        assert ".." not in source, rest
        assert (ROOT / source).exists(), rest
    # Several sources go into a folder.
    assert len(sources) == 1 or target.endswith("/"), rest


def copied(found: list[tuple[str, str]]) -> set[str]:
    """What of the repository a Dockerfile copies."""
    rests = [rest.split() for word, rest in found if word == "COPY" and "--from" not in rest]
    return {source for *sources, _ in rests for source in sources}


@pytest.mark.parametrize("name", DOCKERFILES)
def test_a_dockerfile_has_all_that_the_wheel_is_made_of(name: str) -> None:
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = {
        Path(part).parts[0]
        for part in whole["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    }
    needed |= {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]}
    there = copied(instructions(name))
    assert needed <= there
    # Links in the packages lead to what is copied as well.
    links = [path for part in needed for path in (ROOT / part).rglob("*") if path.is_symlink()]
    assert links
    for link in links:
        assert link.resolve().relative_to(ROOT).as_posix() in there, link


def test_images_hold_what_their_commands_need() -> None:
    extras = {}
    for name in DOCKERFILES:
        line = next(rest for word, rest in instructions(name) if "pip install" in rest)
        check_extras(line.partition("&&")[0])
        extras[name] = set(re.findall(r"\[([a-z,-]+)\]", line)[0].split(","))
    assert extras == {
        "build.Dockerfile": {"cpu", "train", "export"},
        "run.Dockerfile": {"cpu", "serve"},
    }


def test_every_sample_is_checked_and_listed() -> None:
    files = {path.name for path in CI.iterdir() if path.suffix != ".dockerignore"}
    assert files == {"README.md", "github-actions.yml", "gitlab-ci.yml", *DOCKERFILES}
    listed = (CI / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in listed for name in files - {"README.md"})
    # Commands in comments are commands as well.
    asked = []
    for name in DOCKERFILES:
        comments = (CI / name).read_text(encoding="utf-8").replace("\\\n#", "")
        for line in re.findall(r"^#   docker run (.*)$", comments, re.MULTILINE):
            image, arguments = re.findall(r" (edgepeft-\w+)(.*)$", line)[0]
            assert image == f"edgepeft-{name.partition('.')[0]}"
            if arguments.strip():
                asked.append(parse_line(f"edgepeft {arguments}"))
    assert len(asked) == 2
