"""One bundle, several runtimes: the same folder gives the same greedy tokens in each, unchanged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgepeft.runtime import Bundle, GraphSession, Runtime
from edgepeft.runtime.devices import CPU
from tests.conftest import SAMPLES, skip_device
from tests.exporters.conftest import Find

PLACES = ("kitchen", "bedroom", "garage", "attic", "garden")
PROMPTS = [
    f"Turn {state} the {thing} in the {place}."
    for place in PLACES
    for thing in ("lamp", "radio")
    for state in ("on", "off")
]
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
    done = subprocess.run(command, cwd=SAMPLES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def without_stop(answers: list[list[int]], bundle: Path) -> list[list[int]]:
    """transformers.js hands the stop token over, the others don't."""
    stops = set(Runtime(bundle, provider="cpu").prompter.stop_ids)
    return [ids[:-1] if ids and ids[-1] in stops else ids for ids in answers]


@pytest.mark.parametrize(
    ("case", "target"),
    [
        ("llama", "cpu-int4"),
        ("llama", "webgpu-int4-fp32"),
        ("llama", "cuda-int4"),
        ("llama", "cuda-fp16"),
        ("llama", "webgpu-int4"),
        ("llama", "webgpu-fp16"),
        ("llama", "cpu-fp32"),
        ("qwen3", "cpu-int4"),
        ("gemma3", "cpu-int8"),
    ],
)
def test_every_runtime_gives_the_same_tokens(
    built: Find, case: str, target: str, node: str
) -> None:
    bundle = built(case, target)
    wanted = by_genai(bundle)
    assert len(wanted) == 20
    assert sum(len(ids) for ids in wanted) > 20 * 4
    assert len({tuple(ids) for ids in wanted}) > 1
    assert by_onnxruntime(bundle) == wanted
    assert without_stop(by_transformers_js(bundle, node), bundle) == wanted


def test_transformers_loads_tokenizer_and_template_as_they_are(built: Find) -> None:
    from transformers import AutoTokenizer

    bundle = built("llama", "cpu-int4")
    tokenizer = AutoTokenizer.from_pretrained(bundle)
    messages = [{"role": "user", "content": PROMPTS[0]}]
    theirs = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert theirs == Runtime(bundle).prompter.prompt([{"role": "user", "content": PROMPTS[0]}])


def test_the_c_interface_answers_with_the_bundles_own_tokenizer(
    built: Find, tmp_path: Path
) -> None:
    """genai's tokenizer and template, which edgepeft's runtime doesn't use, must know the prompt as well."""
    import onnxruntime
    import onnxruntime_genai

    compiler = shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs g++ on Linux")
    library = Path(onnxruntime_genai.__file__).parent
    (runtime,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.1*")
    (tmp_path / "libonnxruntime.so").symlink_to(runtime)
    program = tmp_path / "answer"
    built_ = subprocess.run(
        [
            *(compiler, "-std=c++17", str(SAMPLES / "device" / "answer.cpp"), "-o", str(program)),
            *(f"-L{library}", "-l:libonnxruntime-genai.so", f"-Wl,-rpath,{library}"),
            "-Wl,--allow-shlib-undefined",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built_.returncode == 0, built_.stderr
    bundle = built("llama", "cpu-int4")
    done = subprocess.run(
        [program, str(bundle), PROMPTS[0], "8"],
        env={"LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wanted = Runtime(bundle).complete(PROMPTS[0], max_new_tokens=8).text
    assert done.stdout.decode("utf-8", "replace").rstrip("\n").startswith(wanted[:4])


def test_the_python_sample_answers(built: Find) -> None:
    bundle = built("llama", "cpu-int4")
    done = subprocess.run(
        [sys.executable, SAMPLES / "device" / "answer.py", bundle, PROMPTS[0]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") == Runtime(bundle).complete(PROMPTS[0]).text
    assert "tokens/s" in done.stderr


def test_the_chat_page_answers_on_webgpu_in_a_browser(
    built: Find, node: str, webgpu: str, tmp_path: Path
) -> None:
    """Chromium's WebGPU in software; the screenshot stays among pytest's files."""
    if shutil.which("chromium") is None or not (SAMPLES / "node_modules/puppeteer-core").is_dir():
        skip_device("Chromium or puppeteer-core is not installed")
    bundle = built("llama", "webgpu-int4-fp32")
    server = subprocess.Popen(
        [sys.executable, SAMPLES / "web" / "serve.py", bundle, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        page = Path(__file__).resolve().parents[1] / "samples" / "ask_page.mjs"
        question, picture = "What is the colour?", tmp_path / "chat.png"
        done = subprocess.run(
            [node, page, f"{address}/?tokens=6", question, picture],
            cwd=SAMPLES,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    finally:
        server.terminate()
        server.wait()
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["state"], seen["device"], seen["complaints"]) == ("ready", "webgpu", [])
    assert "tokens/s" in seen["status"]
    assert not seen["overflow"]
    runtime = Runtime(bundle, provider="cpu")
    ids = runtime.prompter.prompt([{"role": "user", "content": question}])
    assert seen["ids"] == runtime.generate_ids(ids, max_new_tokens=6)
    assert picture.stat().st_size > 1000
