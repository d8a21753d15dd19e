"""One bundle, several runtimes: the same folder gives the same greedy tokens in each, unchanged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgepeft.runtime import Runtime
from tests.conftest import skip_device
from tests.runtimes import (
    PROMPTS,
    SAMPLES,
    TOKENS,
    by_genai,
    by_onnxruntime,
    by_transformers_js,
    c_program,
    without_stop,
)
from tests.stages import Find


@pytest.mark.parametrize(
    ("case", "target"),
    [
        ("llama", "cpu-int4"),
        ("llama", "webgpu-int4-fp32"),
        ("llama", "wasm-int4"),
        ("llama", "cuda-int4"),
        ("llama", "cuda-fp16"),
        ("llama", "webgpu-int4"),
        ("llama", "webgpu-fp16"),
        ("llama", "cpu-fp32"),
        ("qwen3", "cpu-int4"),
        ("gemma3", "cpu-int8"),
        ("lfm2", "cpu-int4"),
        ("lfm2", "cpu-fp32"),
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
    """genai's tokenizer and template, which edgepeft's runtime doesn't use, must know the prompt as well.

    Its ids alone: a tiny model's tokens are bytes that make no text, which genai spells in a way of its own.
    """
    ask = c_program(tmp_path)
    bundle = built("llama", "cpu-int4")
    runtime = Runtime(bundle)
    for prompt in PROMPTS[::5]:
        found = json.loads(ask(bundle, prompt, str(TOKENS), "--ids"))
        wanted = runtime.complete(prompt, max_new_tokens=TOKENS)
        assert without_stop([found], bundle) == [wanted.ids]
        assert len(found) > 4


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


def ask_page(bundle: Path, node: str, device: str, question: str, picture: Path) -> dict[str, Any]:
    """What the chat page shows once it has answered, or failed, in Chromium."""
    if shutil.which("chromium") is None or not (SAMPLES / "node_modules/puppeteer-core").is_dir():
        skip_device("Chromium or puppeteer-core is not installed")
    server = subprocess.Popen(
        [sys.executable, SAMPLES / "web" / "serve.py", bundle, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        page = Path(__file__).resolve().parents[1] / "samples" / "ask_page.mjs"
        done = subprocess.run(
            [node, page, f"{address}/?tokens=6{device}", question, picture],
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
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.mark.parametrize(
    ("case", "target", "asked", "device"),
    [
        ("llama", "webgpu-int4-fp32", "", "webgpu"),
        ("llama", "wasm-int4", "", "webgpu"),
        ("llama", "wasm-int4", "&device=wasm", "wasm"),
        ("lfm2", "wasm-int4", "", "webgpu"),
    ],
)
def test_the_chat_page_answers_in_a_browser(
    built: Find,
    node: str,
    webgpu: str,
    case: str,
    target: str,
    asked: str,
    device: str,
    tmp_path: Path,
) -> None:
    """Chromium, its WebGPU in software, or on the processor alone; the picture stays among pytest's files."""
    bundle = built(case, target)
    question, picture = "What is the colour?", tmp_path / "chat.png"
    seen = ask_page(bundle, node, asked, question, picture)
    assert (seen["state"], seen["device"], seen["complaints"]) == ("ready", device, [])
    assert "tokens/s" in seen["status"]
    assert not seen["overflow"]
    runtime = Runtime(bundle, provider="cpu")
    ids = runtime.prompter.prompt([{"role": "user", "content": question}])
    assert seen["ids"] == runtime.generate_ids(ids, max_new_tokens=6)
    assert picture.stat().st_size > 1000


def test_a_page_without_webgpu_says_what_runs_there(built: Find, node: str, tmp_path: Path) -> None:
    """Fails once browsers' processors can look a quantized embedding up, and wasm-int4 is of no use any more."""
    bundle = built("llama", "webgpu-int4-fp32")
    seen = ask_page(bundle, node, "&device=wasm", "What is the colour?", tmp_path / "chat.png")
    assert (seen["state"], seen["ids"]) == ("failed", None)
    assert "GatherBlockQuantized" in seen["turns"][0]
    assert "the target wasm-int4 runs in every browser" in seen["turns"][1]
