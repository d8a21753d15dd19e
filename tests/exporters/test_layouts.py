"""Bundles laid out for one runtime: whole without the others' files, and with the same answers in that one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgepeft.bundle.layout import LAYOUTS, LayoutName
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Message
from edgepeft.errors import InputError
from edgepeft.evaluation.seal import folder_bytes
from edgepeft.runtime import Bundle, Runtime
from tests.command import edgepeft
from tests.runtimes import PROMPTS, by_genai, by_onnxruntime, by_transformers_js, without_stop
from tests.stages import Find

ONE: tuple[LayoutName, ...] = ("genai", "transformers.js", "onnxruntime")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def wanted(built: Find) -> list[list[int]]:
    return by_genai(built("llama", "cpu-int4"))


@pytest.mark.parametrize("layout", ONE)
def test_a_layout_leaves_out_what_the_others_alone_read(built: Find, layout: LayoutName) -> None:
    whole, alone = built("llama", "cpu-int4"), built("llama", f"cpu-int4-{layout}")
    assert files(whole) - files(alone) == set(LAYOUTS[layout].leaves_out)
    assert files(alone) <= files(whole)
    assert folder_bytes(alone) < folder_bytes(whole)
    assert Bundle.open(alone).runtimes == LAYOUTS[layout].runtimes
    if layout == "onnxruntime":
        assert "transformers.js_config" not in json.loads((alone / "config.json").read_text())


@pytest.mark.parametrize("layout", ONE)
def test_edgepeft_verifies_and_runs_each(
    built: Find, wanted: list[list[int]], layout: LayoutName
) -> None:
    bundle = built("llama", f"cpu-int4-{layout}")
    # by_genai asks edgepeft's runtime, which is plain onnxruntime where a bundle has no other.
    assert by_genai(bundle) == wanted
    assert by_onnxruntime(bundle) == wanted
    looked = edgepeft("verify", bundle, "--json")
    assert looked.returncode == 0, looked.stderr
    assert json.loads(looked.stdout)["runtimes"] == list(LAYOUTS[layout].runtimes)
    answer = edgepeft("run", bundle, PROMPTS[0], "--max-new-tokens", "8", "--json")
    assert answer.returncode == 0, answer.stderr
    whole = Runtime(built("llama", "cpu-int4"))
    assert json.loads(answer.stdout)["text"] == whole.complete(PROMPTS[0], max_new_tokens=8).text


def test_every_stop_token_is_known_without_a_generation_config(built: Find) -> None:
    whole, alone = built("llama-untied", "cpu-int4"), built("llama-untied", "cpu-int4-genai")
    wanted = Prompter.from_folder(whole).stop_ids
    assert {2, 7} <= wanted
    assert Prompter.from_folder(alone).stop_ids == wanted


def test_genai_itself_needs_no_configuration_of_transformers(
    built: Find, wanted: list[list[int]]
) -> None:
    import onnxruntime_genai as og

    bundle = built("llama", "cpu-int4-genai")
    model = og.Model(str(bundle))
    tokenizer = og.Tokenizer(model)
    messages = json.dumps([{"role": "user", "content": PROMPTS[0]}])
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    parameters = og.GeneratorParams(model)
    ids = tokenizer.encode(text)
    parameters.set_search_options(do_sample=False, max_length=len(ids) + 8)
    generator = og.Generator(model, parameters)
    generator.append_tokens(ids)
    found = []
    while not generator.is_done():
        generator.generate_next_token()
        found.append(int(generator.get_next_tokens()[0]))
    assert found[: len(wanted[0])] == wanted[0][:8]


def test_transformers_js_answers_without_the_others_files(
    built: Find, wanted: list[list[int]], node: str
) -> None:
    bundle = built("llama", "cpu-int4-transformers.js")
    assert without_stop(by_transformers_js(bundle, node), bundle) == wanted


def test_plain_onnxruntime_answers_on_webgpu(built: Find, webgpu: str) -> None:
    """A bundle for the browser alone, asked natively; the second answer rewinds behind the first."""
    bundle = built("llama", "webgpu-int4-fp32-transformers.js")
    device, cpu = Runtime(bundle), Runtime(bundle, provider="cpu")
    first: list[Message] = [{"role": "user", "content": PROMPTS[0]}]
    done = device.complete(first, max_new_tokens=4)
    assert done.ids == cpu.complete(first, max_new_tokens=4).ids
    second: list[Message] = [
        *first,
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": "So?"},
    ]
    assert (
        device.complete(second, max_new_tokens=3).ids == cpu.complete(second, max_new_tokens=3).ids
    )


def test_optimum_finds_what_it_looks_for(built: Find) -> None:
    """optimum's ORTModel opens the configuration through transformers, and the one graph under onnx/."""
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    bundle = built("llama", "cpu-int4-onnxruntime")
    assert AutoConfig.from_pretrained(bundle).model_type == "llama"
    assert GenerationConfig.from_pretrained(bundle).eos_token_id is not None
    messages = [{"role": "user", "content": PROMPTS[0]}]
    theirs = AutoTokenizer.from_pretrained(bundle).apply_chat_template(
        messages, add_generation_prompt=True
    )["input_ids"]
    assert theirs == Runtime(bundle).prompter.prompt([{"role": "user", "content": PROMPTS[0]}])
    assert len(list(bundle.rglob("*.onnx"))) == 1


def test_a_planted_genai_configuration_is_refused(built: Find, tmp_path: Path) -> None:
    """Who hands the folder to onnxruntime-genai would have it read."""
    bundle = built("llama", "cpu-int4-onnxruntime")
    copy = tmp_path / "copy"
    for name in files(bundle):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((bundle / name).read_bytes())
    Bundle.open(copy)
    (copy / "genai_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"genai_config\.json is not listed in its manifest"):
        Bundle.open(copy)
