"""What is wrong with a recipe's inputs is said before anything long begins, by its key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from edgepeft.errors import InputError
from tests.project import Project
from tests.stages import write_adapter
from tests.tiny import build_tokenizer, write_tiny_model

ROW = json.dumps({"prompt": "Of what colour is a rose?", "completion": "r"}) + "\n"


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["targets=[cpu-int44]"], r"targets: cpu-int44: .*did you mean cpu-int4\?.*cuda-fp16"),
        (["targets=[toaster]"], r"targets: toaster: no such target; targets: cpu-int4, "),
        (["quantize.algorithm=gpt"], r"quantize.algorithm: gpt: .*algorithms: gptq, rtn, k_quant"),
        (["method.name=qlorra"], r"method.name: qlorra: .*did you mean qlora\?.*qlora, lora"),
        (
            ["method.name=loha", "method.target_modules=[q_proj, embed_tokens]"],
            r"method.target_modules: LOHA can't adapt embed_tokens; leave it out, or use LoRA",
        ),
        (
            ["method.options.lora_bias=true"],
            r"method.options.lora_bias: model.layers.0.\S+_proj has no bias to merge it into; name",
        ),
        (
            ["method.options.lora_bias=true", "method.target_modules=[q_proj]"],
            r"method.options.lora_bias: model.layers.0.self_attn.q_proj has no bias to merge it into",
        ),
        (
            ["method.target_modules=[query, value]"],
            r"method.target_modules: the model has no module query, value; its linear layers are down_proj, gate",
        ),
        (["layout=gena"], r"layout: .*'all', 'genai', 'transformers.js' or 'onnxruntime'"),
        (
            ["layout=transformers.js", "targets=[cpu-int4, cuda-bf16]"],
            r"layout: transformers\.js: transformers\.js does not run cuda-bf16; choose all or onnxruntime",
        ),
        (
            ["layout=onnxruntime", "targets=[{name: cpu-int4, adapters: hot-swap}]"],
            r"layout: onnxruntime: cpu-int4 takes adapters, which .* onnxruntime-genai; choose all or genai",
        ),
        (
            ["data.max_length=513"],
            r"data.max_length: 513 is longer than the model's context, 512 tokens",
        ),
        (["data.train=null"], r"data.train: this key is required to train"),
        (["data.test=null"], r"data.test: this key is required to measure"),
        (["data.train=nowhere.jsonl"], r"nowhere.jsonl: no such data file; check data.train"),
        (["data.generic=nowhere.txt"], r"nowhere.txt: cannot be read"),
        (["data.template=nowhere.jinja"], r"nowhere.jinja: cannot be read"),
        (["model=nowhere"], r"model: nowhere: no such folder or file, and not a known name"),
        (
            ["quantize.algorithm=k_quant", "quantize.symmetric=true"],
            r"quantize.symmetric: k_quant has no symmetric variant; set it to false",
        ),
        (
            [
                "quantize.smooth=true",
                "targets=[{name: cpu-int4, adapters: hot-swap}]",
            ],
            r"quantize.smooth: would change what the adapters of cpu-int4 were trained on; leave",
        ),
        (
            ["quantize.max_generic_kl=0.05", "targets=[cpu-int8]"],
            r"quantize.max_generic_kl: chooses between 4 and 8 bits, and .*cpu-int8 is fixed.*int4 targets only",
        ),
        (
            [
                "targets=[cpu-int4]",
                "quantize.max_task_kl=0.01",
                "quantize.calibration.task_share=0",
            ],
            r"quantize.max_task_kl: is measured on rows of data.train; give data.train",
        ),
        (
            [
                "targets=[cpu-int4]",
                "quantize.max_generic_kl=0.01",
                "quantize.calibration.task_share=1",
            ],
            r"quantize.max_generic_kl: is measured on generic text; set .*task_share below 1",
        ),
        (
            ["quantize.max_generic_kl=0.01", "quantize.max_bytes=1MB"],
            r"remove max_bytes, or max_task_kl and max_generic_kl: ",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_key(
    project: Project, overrides: list[str], match: str
) -> None:
    project.refuses(*overrides, match=match)


def test_a_module_that_the_model_lacks_is_told_of(project: Project) -> None:
    named = "method.target_modules=[q_proj, self_attn.v_proj, gate_projj, lm_head]"
    (told,) = [note for note in project.plan(named).notes if "is called" in note]
    assert (
        told
        == "method.target_modules: no module of the model is called gate_projj; the others train"
    )


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", r"test.jsonl: contains no rows"),
        ("\n\n", r"test.jsonl: contains no rows"),
        (ROW + '{"prompt": "Hi"}\n', r"test.jsonl line 2"),
        (ROW + '{"prompt": "Hi", "completion": null}\n', r"test.jsonl line 2"),
        (ROW * 2 + "{\n", r"test.jsonl line 3: not valid JSON"),
    ],
)
def test_data_is_read_before_anything_starts(project: Project, content: str, match: str) -> None:
    (project.folder / "test.jsonl").write_text(content)
    with pytest.raises(InputError, match=match):
        project.plan()


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (shutil.rmtree, "adapter: no such adapter folder"),
        (
            lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"),
            r"holds only pickle weights \(adapter_model.bin\)",
        ),
        (lambda f: (f / "adapter_config.json").write_text('{"r": 4}'), "has no peft_type"),
    ],
)
def test_adapters_are_looked_at_before_anything_starts(
    project: Project, spoil: Callable[[Path], object], match: str
) -> None:
    project.use_adapter()
    spoil(project.folder / "adapter")
    with pytest.raises(InputError, match=match):
        project.plan()


def test_what_is_not_needed_need_not_be_there(project: Project) -> None:
    project.recipe["data"].pop("test")
    assert "train" in project.keys(until="train")
    project.recipe["data"] = {"test": "test.jsonl"}
    project.recipe["adapter"] = "adapter"
    write_adapter(project.folder / "model", project.folder / "adapter")
    assert project.plan().stages[-1].name == "verify-cpu-fp32"


def test_a_prefix_wants_positions_of_one_kind(project: Project) -> None:
    path = project.folder / "model" / "config.json"
    config = json.loads(path.read_text())
    config["rope_parameters"] = {"rope_type": "longrope", "rope_theta": 10000.0}
    config |= {"architectures": ["Phi3ForCausalLM"], "original_max_position_embeddings": 32}
    path.write_text(json.dumps(config))
    with pytest.raises(
        InputError,
        match=r"method\.name: .*prefix tuning does not work with the longrope.*prompt_tuning",
    ):
        project.plan("method.name=prefix_tuning")
    project.plan("method.name=prompt_tuning")


def test_models_that_cannot_be_exported_are_refused(project: Project) -> None:
    path = project.folder / "model" / "config.json"
    config = {**json.loads(path.read_text()), "vision_config": {}}
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match="model: model: LlamaForCausalLM also takes images"):
        project.plan()
    config = {**config, "vision_config": None, "architectures": ["Qwen2VLForCausalLM"]}
    config.pop("vision_config")
    path.write_text(json.dumps(config))
    with pytest.raises(
        InputError, match="Qwen2VLForCausalLM is not supported; nearest: Qwen2; supported: Llama, "
    ):
        project.plan()


OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT2LMHeadModel": ("GPT2", {"n_layer": 1, "n_head": 2, "n_embd": 32}),
    "T5ForConditionalGeneration": ("T5", {"d_model": 32, "d_ff": 32, "num_layers": 1, "d_kv": 8}),
    "OPTForCausalLM": ("OPT", {"hidden_size": 32, "ffn_dim": 32, "num_hidden_layers": 1}),
    "GPTJForCausalLM": ("GPTJ", {"n_embd": 64, "n_layer": 1, "n_head": 4}),
    "BloomForCausalLM": ("Bloom", {"hidden_size": 32, "n_layer": 1, "n_head": 2}),
    "ViTForImageClassification": ("ViT", {"hidden_size": 36, "num_hidden_layers": 1}),
    "WhisperForConditionalGeneration": (
        "Whisper",
        {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 52_000},
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_models_of_other_kinds_are_refused_for_what_they_are(project: Project, name: str) -> None:
    """Their configurations call sizes by other names, which is no fault of theirs."""
    import torch
    import transformers
    from safetensors.torch import save_file

    kind, sizes = OTHERS[name]
    config = getattr(transformers, f"{kind}Config")(**{"vocab_size": 512, **sizes})
    config.architectures = [name]
    config.save_pretrained(project.folder / "other")
    save_file({"some.weight": torch.zeros(2, 2)}, project.folder / "other" / "model.safetensors")
    with pytest.raises(InputError, match=rf"^model: other: {name}( \(\w+\))? is not supported"):
        project.plan("model=other")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"head_dim": 20}, "attention head size is 20, .* takes multiples of 16"),
        ({"num_hidden_layers": 1}, r"holds model\.layers\.1\.\S+, which a model of 1 layers"),
        ({"vocab_size": 508}, r"embed_tokens\.weight is \(512, 64\), .* calls for \(508, 64\)"),
        ({"hidden_size": None}, r"hidden_size is missing or not a positive whole number"),
        ({"intermediate_size": None, "vocab_size": None}, "intermediate_size is missing"),
    ],
)
def test_headers_are_held_against_the_configuration(
    project: Project, changes: dict[str, Any], match: str
) -> None:
    path = project.folder / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(InputError, match=match):
        project.plan()


def test_tokens_without_rows_are_refused_unless_they_get_some(project: Project) -> None:
    extra = tuple(f"<{number}>" for number in range(300))
    build_tokenizer(bos=True, extra=extra).save_pretrained(str(project.folder / "model"))
    with pytest.raises(InputError, match=r"token '<\d+>' with id 512, .* 512 rows \(\d+ such"):
        project.plan()
    project.plan("data.tokens=['<299>']")


def test_what_a_folder_holds_besides_is_told(project: Project) -> None:
    assert not project.plan().notes
    (project.folder / "model" / "modeling_own.py").write_text("raise SystemExit(3)")
    (project.folder / "model" / "who.knows").write_text("")
    notes = project.plan().notes
    assert any("modeling_own.py is code, which is never run" in note for note in notes)
    assert any("who.knows: not known here, and not used" in note for note in notes)


@pytest.mark.parametrize(
    ("case", "change", "match"),
    [
        ("stablelm", "method.name=prefix_tuning", r"with StableLm\S+ which rotates neighbouring"),
        ("lfm2", "method.name=prefix_tuning", "with Lfm2.* convolutions keep no keys and values"),
        ("lfm2", "method.name=bottleneck", "lie behind o_proj, which Lfm2"),
        (
            "lfm2",
            "method.target_modules=[w1, conv]",
            r"target_modules: .*conv\.conv\.weight is \(64",
        ),
        ("starcoder2", "method.name=bottleneck", "lie behind down_proj, which Starcoder2"),
        ("phi", 'method.target_modules=["q_proj", "lm_head"]', "head of Phi.* has a bias"),
    ],
)
def test_methods_that_a_family_does_not_take_are_refused(
    project: Project, case: str, change: str, match: str
) -> None:
    from tests.architectures.cases import CASES as MODELS
    from tests.architectures.cases import write_case

    write_case(MODELS[case], project.folder / "other")
    with pytest.raises(InputError, match=match):
        project.plan("model=other", change)


def test_modules_are_known_by_the_names_that_they_will_have(project: Project) -> None:
    """A bare model's, and those inside a larger one, are renamed as the base is staged."""
    file = project.folder / "model" / "model.safetensors"
    named = "method.target_modules=[model.layers.0.self_attn.q_proj]"
    stored = load_file(file)
    for before in ("", "model.language_model."):
        renamed = {name.replace("model.", before, 1): one for name, one in stored.items()}
        save_file(renamed, file, metadata={"format": "pt"})
        assert not any("is called" in note for note in project.plan(named).notes)
        project.refuses(named.replace("q_proj", "q_projj"), match="the model has no module")


def test_biases_are_asked_of_what_is_not_left_out(project: Project) -> None:
    write_tiny_model(project.folder / "other", "qwen2")
    asked = ("model=other", "method.name=lora", "method.options.lora_bias=true")
    project.refuses(*asked, match=r"lora_bias: model\.layers\.0\.\S+ has no bias")
    left_out = "method.options.exclude_modules=[o_proj, gate_proj, up_proj, down_proj]"
    assert "train" in project.keys(*asked, left_out)
