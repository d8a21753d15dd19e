"""The same questions asked of one bundle through several runtimes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepeft.runtime import Bundle, GraphSession, Runtime
from edgepeft.runtime.devices import CPU

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
THINGS = (
    "snow",
    "the sea",
    "bread",
    "violins",
    "the moon",
    "oaks",
    "steam",
    "honey",
    "chess",
    "rain",
)
ASKED = ("Tell me something about {}.", "Write a short story about {}.")
PROMPTS = [asked.format(thing) for thing in THINGS for asked in ASKED]
TOKENS = 32


def by_genai(bundle: Path) -> list[list[int]]:
    runtime = Runtime(bundle, provider="cpu")
    asked = [runtime.prompter.prompt([{"role": "user", "content": text}]) for text in PROMPTS]
    return [runtime.generate_ids(ids, max_new_tokens=TOKENS) for ids in asked]


def by_onnxruntime(bundle: Path) -> list[list[int]]:
    prompter = Runtime(bundle, provider="cpu").prompter
    session = GraphSession(Bundle.open(bundle), providers=[CPU])
    asked = [prompter.prompt([{"role": "user", "content": text}]) for text in PROMPTS]
    return [session.greedy(ids, TOKENS, prompter.stop_ids) for ids in asked]


def by_transformers_js(bundle: Path, node: str) -> list[list[int]]:
    command = [node, "device/answer.mjs", str(bundle), "--ids", "--tokens", str(TOKENS), *PROMPTS]
    with tempfile.TemporaryDirectory() as home:
        env = as_a_user(Path(home))
        done = subprocess.run(
            command, cwd=SAMPLES, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert not list(Path(home).rglob("*Microsoft*"))
    return [json.loads(line) for line in done.stdout.splitlines()]


def as_a_user(home: Path) -> dict[str, str]:
    """An environment with a home of its own and no switch or sign of CI that would keep libraries from
    reporting.
    """
    dropped = ("CI", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "DO_NOT_TRACK", "XDG_CACHE_HOME")
    return {
        **{name: value for name, value in os.environ.items() if name not in dropped},
        "HOME": str(home),
    }


def c_program(folder: Path) -> Callable[..., str]:
    """Build samples/device/answer.cpp in ``folder``; returns what asks it and hands its output over."""
    import onnxruntime
    import onnxruntime_genai

    compiler = shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs g++ on Linux")
    library = Path(onnxruntime_genai.__file__).parent
    (runtime,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.1*")
    (folder / "libonnxruntime.so").symlink_to(runtime)
    program = folder / "answer"
    built = subprocess.run(
        [
            *(compiler, "-std=c++17", str(SAMPLES / "device" / "answer.cpp"), "-o", str(program)),
            *(f"-L{library}", "-l:libonnxruntime-genai.so", f"-Wl,-rpath,{library}"),
            "-Wl,--allow-shlib-undefined",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr

    home = folder / "home"
    home.mkdir()

    def ask(*arguments: object) -> str:
        done = subprocess.run(
            [program, *map(str, arguments)],
            env={"LD_LIBRARY_PATH": str(folder), "HOME": str(home)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not list(home.rglob("*Microsoft*"))
        return done.stdout.decode("utf-8", "replace")

    return ask


def without_stop(answers: list[list[int]], bundle: Path) -> list[list[int]]:
    """transformers.js hands the stop token over, the others don't."""
    stops = set(Runtime(bundle, provider="cpu").prompter.stop_ids)
    return [ids[:-1] if ids and ids[-1] in stops else ids for ids in answers]
