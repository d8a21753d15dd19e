"""Bundles timed side by side: figures that hang together, and one line for what can't be timed."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from edgepeft.benchmark import measure as measuring
from edgepeft.benchmark.bench import Case, bench, memory_bandwidth
from edgepeft.errors import EdgepeftError, InputError, MissingError
from tests.command import edgepeft


@pytest.fixture(scope="module")
def measured(tiny_bundle: Path) -> dict[str, Any]:
    cases = [Case(tiny_bundle, None), Case(tiny_bundle, "cpu")]
    return bench(cases, prompt_tokens=[8, 64], new_tokens=16, rounds=2, threads=1)


def test_every_case_and_length_is_measured(measured: dict[str, Any], tiny_bundle: Path) -> None:
    assert len(measured["cases"]) == 2
    for case in measured["cases"]:
        assert case["path"] == str(tiny_bundle)
        assert case["device"].lower() == "cpu"
        assert case["load_seconds"] > 0
        assert 20e6 < case["peak_memory_bytes"] < 2e9
        assert [length["prompt_tokens"] for length in case["lengths"]] == [8, 64]
        for length in case["lengths"]:
            assert length["prefill_tokens_per_second"] > 0 < length["first_token_seconds"]
            share = length["decode_tokens_per_second"] * case["weight_bytes"]
            assert length["bandwidth_share"] == share / measured["memory_bandwidth"]


def test_weights_are_those_of_the_graphs_folder(
    measured: dict[str, Any], tiny_bundle: Path
) -> None:
    wanted = sum(path.stat().st_size for path in (tiny_bundle / "onnx").iterdir())
    assert measured["cases"][0]["weight_bytes"] == wanted


def test_bandwidth_is_that_of_memory() -> None:
    assert 1e9 < memory_bandwidth(1) < 2e12


def test_a_stop_token_does_not_cut_the_timing_short(tiny_bundle: Path) -> None:
    """Every step is timed, whatever the model would rather answer."""
    found = measuring.measure(
        tiny_bundle, prompt_tokens=[4], new_tokens=200, provider=None, threads=1
    )
    assert found["lengths"][4]["decode_tokens_per_second"] > 0


def test_a_prompt_beyond_the_context_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="600 prompt and 4 new tokens do not fit into its context"):
        bench([Case(tiny_bundle, None)], prompt_tokens=[600], new_tokens=4, rounds=1)


def test_a_provider_that_is_not_here_is_named(tiny_bundle: Path) -> None:
    with pytest.raises(MissingError, match=r"edgepeft\[cuda\]"):
        bench([Case(tiny_bundle, "cuda")], prompt_tokens=[4], new_tokens=4, rounds=1)


def test_the_command_prints_a_table_or_json(tiny_bundle: Path) -> None:
    options = ("--prompt-tokens", "4", "--new-tokens", "4", "--rounds", "1", "--threads", "1")
    shown = edgepeft("bench", tiny_bundle, *options)
    assert shown.returncode == 0, shown.stderr
    assert "decode tok/s" in shown.stdout
    assert "memory bandwidth measured here" in shown.stdout
    found = json.loads(edgepeft("bench", tiny_bundle, *options, "--json").stdout)
    assert found["cases"][0]["target"] == "cpu-int4"
    wrong = edgepeft("bench", tiny_bundle, "--prompt-tokens", "many")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "--prompt-tokens many: give whole numbers" in wrong.stderr


def test_timing_needs_no_torch(tiny_bundle: Path) -> None:
    import subprocess

    code = (
        "import sys; from edgepeft.benchmark.bench import bench, Case; from edgepeft.benchmark import measure; "
        f"measure.measure({str(tiny_bundle)!r}, prompt_tokens=[4], new_tokens=4, provider=None, threads=1); "
        "assert not {'torch', 'transformers', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_llama_cpp_is_asked_for_by_its_package(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where it is not installed: what to install; where it is: which checkpoint it takes."""
    from edgepeft.benchmark.llama_cpp import gguf_of_runs

    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(MissingError, match="pip install llama-cpp-python"):
        gguf_of_runs([tiny_bundle], tmp_path, print)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(InputError, match="needs the merged checkpoint of its run"):
        gguf_of_runs([tiny_bundle], tmp_path, print)


@pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)
def test_llama_cpp_takes_its_turn(tiny_bundle: Path, tmp_path: Path) -> None:
    """The tiny model's merged checkpoint, in a run's folder around the bundle."""
    pytest.importorskip("torch")
    from tests.tiny import write_tiny_model

    run = tmp_path / "run"
    merged = write_tiny_model(tmp_path / "merged", "llama")
    shutil.copytree(tiny_bundle, run / "bundles" / "cpu-int4")
    (run / "run.json").write_text(json.dumps({"result": {"merged": str(merged)}}))
    options = ("--prompt-tokens", "4", "--new-tokens", "4", "--rounds", "1", "--threads", "1")
    shown = edgepeft("bench", run / "bundles" / "cpu-int4", "--llama-cpp", *options, "--json")
    assert shown.returncode == 0, shown.stderr
    ours, theirs = json.loads(shown.stdout)["cases"]
    assert (ours["target"], theirs["target"]) == ("cpu-int4", "Q4_K_M")
    assert theirs["lengths"][0]["decode_tokens_per_second"] > 0
    assert theirs["provider"] == "llama.cpp"


def planted(tmp_path: Path, code: str) -> dict[str, str]:
    """An environment in which llama-cpp-python does this when it is imported."""
    package = tmp_path / "planted" / "llama_cpp"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(code)
    return {"PYTHONPATH": str(package.parent)}


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (
            "import os, signal; os.write(2, b'first\\nillegal instruction\\n'); "
            "os.kill(os.getpid(), signal.SIGSEGV)",
            "its process was killed by SIGSEGV; the last line it wrote: illegal instruction",
        ),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "its process was killed by SIGKILL (out of memory?)",
        ),
        ("import os; os._exit(7)", "its process ended with status 7 and no result"),
        ("raise ValueError('no such kernel')", "failed (ValueError: no such kernel)"),
    ],
)
def test_the_runtime_that_died_is_the_one_that_is_named(
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    wanted: str,
) -> None:
    for name, value in planted(tmp_path, code).items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    cases = [Case(tiny_bundle, None), Case(tiny_bundle, None, file)]
    with pytest.raises(EdgepeftError) as caught:
        bench(cases, prompt_tokens=[4], new_tokens=4, rounds=1, threads=1)
    assert str(caught.value) == f"llama.cpp on {file}: {wanted}"
    # The bundle has been measured all the while.
    assert bench(cases[:1], prompt_tokens=[4], new_tokens=4, rounds=1)["cases"]


def test_our_own_process_that_dies_is_named_as_ours(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "planted" / "onnxruntime_genai"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import os; os.abort()")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    with pytest.raises(EdgepeftError, match="killed by SIGABRT") as caught:
        bench([Case(tiny_bundle, None)], prompt_tokens=[4], new_tokens=4, rounds=1)
    assert str(caught.value).startswith(f"onnxruntime on {tiny_bundle}: ")


def test_llama_cpp_that_dies_while_quantizing_does_not_take_the_command_along(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("gguf")
    from tests.tiny import write_tiny_model

    run = tmp_path / "run"
    shutil.copytree(tiny_bundle, run / "bundles" / "cpu-int4")
    merged = write_tiny_model(tmp_path / "merged", "llama")
    (run / "run.json").write_text(json.dumps({"result": {"merged": str(merged)}}))
    dying = planted(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    done = edgepeft("bench", run / "bundles" / "cpu-int4", "--llama-cpp", env=dying)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"edgepeft: llama.cpp, quantizing {merged}: its process was killed by SIGILL"
    )


def test_threads_are_told(tiny_bundle: Path) -> None:
    from edgepeft.utils.processors import processors

    found = bench([Case(tiny_bundle, None)], prompt_tokens=[4], new_tokens=4, rounds=1)
    assert found["threads"] == found["cases"][0]["threads"] == processors().threads
    found = bench([Case(tiny_bundle, None)], prompt_tokens=[4], new_tokens=4, rounds=1, threads=1)
    assert found["cases"][0]["threads"] == 1
