"""Checkpoints held against their model: what is missing, left over, renamed, of another shape, or no number."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from edgepeft.checkpoints import base as base_stage
from edgepeft.checkpoints.base import base_fingerprints, checkpoint_folder, open_base
from edgepeft.checkpoints.base_stage import BaseSettings
from edgepeft.checkpoints.fingerprint import fingerprint
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.errors import InputError
from tests.architectures.cases import CASES, write_case
from tests.conftest import ModelMaker
from tests.stages import run_stage
from tests.tiny_gguf import write_tiny_gguf

Tensors = dict[str, torch.Tensor]
LAYER = "model.layers.1.self_attn.q_proj.weight"


def changed(
    model: Path, folder: Path, edit: Callable[[Tensors], Any] = lambda t: None, **config: Any
) -> Path:
    """A copy of a model with other tensors and other keys in its configuration."""
    shutil.copytree(model, folder)
    tensors = load_file(folder / "model.safetensors")
    found = edit(tensors)
    tensors = found if isinstance(found, dict) else tensors
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


def stage(model: Path, out: Path, **settings: Any) -> Path:
    return run_stage(base_stage.run, out, settings, {"model": model})


def renamed(change: Callable[[str], str]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {change(name): tensor for name, tensor in tensors.items()}


WRAPPED: dict[str, Callable[[str], str]] = {
    "module": lambda name: f"module.{name}",
    "_orig_mod": lambda name: f"_orig_mod.{name}",
    "both": lambda name: f"module._orig_mod.{name}",
    "compiled layers": lambda name: name.replace("layers.0.", "layers.0._orig_mod."),
    "a language model inside": lambda name: name.replace("model.", "model.language_model.", 1),
    "a language model beside": lambda name: f"language_model.{name}",
    "a wrapped one": lambda name: f"module.language_model.{name}",
}


@pytest.mark.parametrize("what", WRAPPED)
def test_names_of_wrappers_are_taken_off_in_a_copy(
    tiny_model: ModelMaker, tmp_path: Path, what: str
) -> None:
    plain = tiny_model("llama", tied=False)
    model = changed(plain, tmp_path / "model", renamed(WRAPPED[what]))
    base = stage(model, tmp_path / "base")
    assert checkpoint_folder(base) == base
    stored, wanted = open_base(base), SafetensorsSource.from_folder(plain)
    assert set(stored.specs) == set(wanted.specs)
    for name in wanted.specs:
        assert torch.equal(stored.load(name), wanted.load(name))
    # An adapter may have been trained on either.
    prints = base_fingerprints(base)
    assert {fingerprint(SafetensorsSource.from_folder(one)) for one in (plain, model)} <= prints
    transformers.AutoModelForCausalLM.from_pretrained(base)


def test_a_body_saved_by_itself_is_a_tied_model(tiny_model: ModelMaker, tmp_path: Path) -> None:
    bare = renamed(lambda name: name.removeprefix("model."))
    model = changed(tiny_model("llama", tied=True), tmp_path / "model", bare)
    assert LAYER in open_base(stage(model, tmp_path / "base")).specs


HARMLESS = {
    "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
    "model.rotary_emb.cos_cached": torch.ones(4, 8),
    "mtp.layers.0.input_proj.weight": torch.ones(4, 4),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_tensors_that_carry_nothing_are_left_out_with_a_word(
    tiny_model: ModelMaker, tmp_path: Path, name: str
) -> None:
    plain = tiny_model("llama")
    model = changed(plain, tmp_path / "model", lambda t: t.update({name: HARMLESS[name]}))
    said: list[str] = []
    from tests.stages import job_of

    (tmp_path / "out").mkdir()
    job = job_of(
        BaseSettings,
        tmp_path / "out",
        {},
        {"model": model},
        lambda e: said.append(str(e.get("text"))),
    )
    assert base_stage.run(job).dropped == (name,)
    assert any("model: left out" in text and "(1 tensors)" in text for text in said)
    base = stage(model, tmp_path / "base")
    assert checkpoint_folder(base) == model
    assert set(open_base(base).specs) == set(SafetensorsSource.from_folder(plain).specs)


def test_a_tied_models_head_stored_again_is_left_out(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    """A merge would change the embedding and leave the copy, which transformers would then load as a head."""

    def again(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    model = changed(tiny_model("llama", tied=True), tmp_path / "model", again)
    assert "lm_head.weight" not in open_base(stage(model, tmp_path / "base")).specs


@pytest.mark.parametrize(
    ("edit", "config", "match"),
    [
        (lambda t: t.pop(LAYER), {}, rf"lacks {LAYER} \(1 missing\)"),
        (
            lambda t: t.update({"model.layers.1.self_attn.q_norm.weight": torch.ones(16)}),
            {},
            r"holds model\.layers\.1\.self_attn\.q_norm\.weight, which LlamaForCausalLM does not "
            r"use as config\.json describes it \(1 such tensors\)",
        ),
        (
            lambda t: t.update({f"model.layers.{n}.x.bias": torch.ones(2) for n in range(2)}),
            {},
            r"holds model\.layers\.0\.x\.bias, .* \(2 such tensors\)",
        ),
        (lambda t: None, {"num_hidden_layers": 1}, r"holds model\.layers\.1\.\S+, .* \(9 such"),
        (lambda t: None, {"num_hidden_layers": 3}, r"lacks model\.layers\.2\.\S+ \(9 missing\)"),
        (lambda t: None, {"attention_bias": True}, r"lacks \S+q_proj\.bias \(8 missing\)"),
        (
            lambda t: t.update({LAYER: torch.zeros(64, 60)}),
            {},
            rf"{LAYER} is \(64, 60\), and config\.json calls for \(64, 64\)",
        ),
        (lambda t: None, {"intermediate_size": 96}, r"is \(64, 160\), and .* for \(64, 96\)"),
        (
            lambda t: t.update({LAYER: torch.zeros(64, 64, dtype=torch.int8)}),
            {},
            rf"{LAYER} is int8, and a weight is floating",
        ),
        (
            lambda t: {
                f"module.{k}" if "layers.0" in k else k: v for k, v in t.items() if k != LAYER
            },
            {},
            r"module\.\S+ has the prefix of a wrapper and others have none",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_counted(
    tiny_model: ModelMaker,
    tmp_path: Path,
    edit: Callable[[Tensors], Any],
    config: dict[str, Any],
    match: str,
) -> None:
    model = changed(
        tiny_model("llama"),
        tmp_path / "model",
        lambda t: x if isinstance(x := edit(t), dict) else None,
        **config,
    )
    with pytest.raises(InputError, match=match):
        stage(model, tmp_path / "base")


def test_a_constant_that_is_another_than_the_classs_is_refused(tmp_path: Path) -> None:
    """Apertus keeps the constants of its activation in its checkpoints."""
    model = write_case(CASES["apertus-bfloat16"], tmp_path / "model")
    stage(model, tmp_path / "base")
    name = "model.layers.1.mlp.act_fn.beta"

    def edit(tensors: Tensors) -> None:
        tensors[name] = tensors[name] + 0.25

    other = changed(model, tmp_path / "other", edit)
    with pytest.raises(
        InputError, match=r"act_fn\.beta is 0\.75, and Apertus\S+ is supported with 0"
    ):
        stage(other, tmp_path / "refused")


def test_rows_of_a_heads_bias_follow_the_vocabulary(tmp_path: Path) -> None:
    model = write_case(CASES["phi"], tmp_path / "model")
    base = open_base(stage(model, tmp_path / "base", rows=520))
    bias = base.load("lm_head.bias")
    assert bias.shape == (520,)
    assert bias[512:] == pytest.approx([float(bias[:512].mean())] * 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_never_train(
    tiny_model: ModelMaker, tmp_path: Path, value: float, dtype: torch.dtype
) -> None:
    def spoil(tensors: Tensors) -> None:
        tensors[LAYER] = tensors[LAYER].to(dtype)
        tensors[LAYER][3, 5] = value

    model = changed(tiny_model("llama"), tmp_path / "model", spoil)
    with pytest.raises(InputError, match=rf"model: {LAYER} holds NaN or infinite values"):
        stage(model, tmp_path / "base")


def test_rows_for_every_token_or_none(tiny_model: ModelMaker, tmp_path: Path) -> None:
    from tests.tiny import build_tokenizer

    model = changed(tiny_model("llama"), tmp_path / "model")
    extra = tuple(f"<{number}>" for number in range(300))
    build_tokenizer(bos=True, extra=extra).save_pretrained(str(model))
    with pytest.raises(InputError, match=r"token '<\d+>' with id 512, .* 512 rows"):
        stage(model, tmp_path / "base")
    base = stage(model, tmp_path / "grown", tokens=["<299>"])
    assert open_base(base).specs["model.embed_tokens.weight"].shape[0] > 512


class TestGguf:
    """The same of GGUF files, whose tensors transformers makes up or passes over."""

    @pytest.fixture(autouse=True)
    def _library(self) -> None:
        pytest.importorskip("gguf")

    def test_a_whole_file(self, tiny_model: ModelMaker, tmp_path: Path) -> None:
        model = write_tiny_gguf(tiny_model("llama"), tmp_path / "m.gguf")
        base = stage(model, tmp_path / "base")
        folder = tiny_model("llama")
        wanted = SafetensorsSource.from_folder(folder).load("model.layers.1.mlp.up_proj.weight")
        assert torch.equal(open_base(base).load("model.layers.1.mlp.up_proj.weight"), wanted)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"without": ["blk.1.ffn_down.weight"]}, r"lacks blk\.1\.ffn_down\.weight \(1 miss"),
            ({"without": ["output_norm.weight"]}, r"lacks output_norm\.weight \(1 missing\)"),
            (
                {"more": {"blk.0.attn_q_norm.weight": torch.ones(16).numpy()}},
                r"holds blk\.0\.attn_q_norm\.weight, which LlamaForCausalLM does not use",
            ),
            (
                {"more": {"blk.2.attn_q.weight": torch.ones(64, 64).numpy()}},
                r"holds blk\.2\.attn_q\.weight, which",
            ),
            (
                {"more": {"blk.0.attn_q.weight": torch.ones(64, 96).numpy()}},
                r"blk\.0\.attn_q\.weight is \(64, 96\), and its metadata calls for \(64, 64\)",
            ),
            (
                {"more": {"blk.0.ffn_norm.weight": torch.full((64,), float("nan")).numpy()}},
                r"holds NaN or infinite values",
            ),
        ],
    )
    def test_what_does_not_fit(
        self, tiny_model: ModelMaker, tmp_path: Path, options: dict[str, Any], match: str
    ) -> None:
        model = write_tiny_gguf(tiny_model("llama"), tmp_path / "m.gguf", **options)
        with pytest.raises(InputError, match=rf"m\.gguf: .*{match}"):
            stage(model, tmp_path / "base")

    def test_more_tokens_than_rows(self, tiny_model: ModelMaker, tmp_path: Path) -> None:
        model = write_tiny_gguf(tiny_model("llama"), tmp_path / "m.gguf", tokens=530)
        with pytest.raises(InputError, match=r"m\.gguf"):
            stage(model, tmp_path / "base")

    def test_no_token_is_made_up_beyond_the_rows(
        self, tiny_model: ModelMaker, tmp_path: Path
    ) -> None:
        model = write_tiny_gguf(tiny_model("llama"), tmp_path / "m.gguf")
        base = stage(model, tmp_path / "base")
        tokenizer = transformers.AutoTokenizer.from_pretrained(base)
        assert max(tokenizer.get_vocab().values()) == 511
