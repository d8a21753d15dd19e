"""Names of an adapter's tensors as wrappers and trainers leave them: brought back, or refused where they
disagree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgepeft.adapters.keys import PREFIX, TUNERS, canonical, language_model_of, module_of
from edgepeft.errors import InputError
from edgepeft.models.names import moved

Q = f"{PREFIX}model.layers.0.self_attn.q_proj"
KEYS = [f"{Q}.lora_A.weight", f"{Q}.lora_B.weight", f"{PREFIX}lm_head.weight"]
WHERE = Path("adapter_model.safetensors")

HARMLESS: dict[str, tuple[Callable[[str], str], str]] = {
    "the adapter's name": (lambda k: k.replace("_A.", "_A.sft.").replace("_B.", "_B.sft."), "sft"),
    "and its own word for itself": (
        lambda k: k.replace(".weight", ".default.weight") if "lora" in k else k,
        "default, which is taken out",
    ),
    "DistributedDataParallel": (lambda k: f"module.{k}", "wrapper module"),
    "inside PEFT's": (lambda k: k.replace(PREFIX, f"{PREFIX}module."), None),  # type: ignore[dict-item]
    "torch.compile": (lambda k: f"_orig_mod.{k}", "wrapper _orig_mod"),
    "torch.compile of a part": (
        lambda k: k.replace("layers.0.", "layers.0._orig_mod."),
        "wrapper _orig_mod",
    ),
    "FSDP": (lambda k: k.replace(PREFIX, f"{PREFIX}_fsdp_wrapped_module."), "_fsdp_wrapped_module"),
    "checkpointing": (
        lambda k: k.replace("self_attn", "_checkpoint_wrapped_module.self_attn"),
        "_checkpoint_wrapped_module",
    ),
    "no prefix": (lambda k: k.removeprefix(PREFIX), "lack the prefix"),
    "PEFT twice": (lambda k: f"{PREFIX}{k}", None),  # type: ignore[dict-item]
    "all at once": (
        lambda k: (
            "module._orig_mod."
            + k.removeprefix(PREFIX).replace("_A.", "_A.x.").replace("_B.", "_B.x.")
        ),
        "lack the prefix",
    ),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_harmless_names_become_pefts(what: str) -> None:
    change, said = HARMLESS[what]
    found = canonical([change(key) for key in KEYS], WHERE)
    assert list(found.names) == KEYS
    assert list(found.names.values()) == [change(key) for key in KEYS]
    if said is not None:
        assert any(said in note for note in found.notes)


def test_pefts_own_names_are_left_alone() -> None:
    keys = [
        *KEYS,
        f"{Q}.lora_magnitude_vector.weight",
        f"{Q}.lora_B.bias",
        f"{PREFIX}model.layers.0.mlp.down_proj.ia3_l",
        f"{PREFIX}model.embed_tokens.lora_embedding_A",
        f"{PREFIX}model.embed_tokens.token_adapter.trainable_tokens_delta",
        f"{PREFIX}classifier.dense.weight",
        "base_model.vera_A",
        "base_model.vblora_vector_bank",
    ]
    found = canonical(keys, WHERE)
    assert list(found.names) == keys
    assert not found.notes
    assert list(canonical(["prompt_embeddings"], WHERE).names) == ["prompt_embeddings"]


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ([KEYS[0], KEYS[1].removeprefix(PREFIX)], rf"without the prefix {PREFIX}, which other"),
        ([KEYS[0], f"module.{KEYS[0]}"], r"module\.base_model\S+ both stand for"),
        (
            [KEYS[0].replace("_A.", "_A.one."), KEYS[1].replace("_B.", "_B.two.")],
            "holds the adapters one and two",
        ),
        ([KEYS[0].replace("_A.", "_A.one."), KEYS[1]], r"names the adapter one and \S+ does not"),
    ],
)
def test_names_that_disagree_are_refused(keys: list[str], match: str) -> None:
    with pytest.raises(InputError, match=match):
        canonical(keys, WHERE)


MODULES = ["model.layers.0.self_attn.q_proj", "lm_head"]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda k: k, None),
        (lambda k: k.replace(f"{PREFIX}model.", f"{PREFIX}model.language_model."), MODULES),
        (lambda k: k.replace(f"{PREFIX}model.", f"{PREFIX}language_model.model."), MODULES),
        (lambda k: k.replace(PREFIX, f"{PREFIX}language_model."), MODULES),
        (lambda k: k.replace(f"{PREFIX}model.", PREFIX), MODULES),
        (lambda k: k.replace("layers", "blocks"), None),
    ],
)
def test_a_language_model_inside_a_larger_one_is_found(
    change: Callable[[str], str], wanted: list[str] | None
) -> None:
    keys = [change(key) for key in KEYS[:2]]
    place = language_model_of(keys, MODULES)
    if wanted is None:
        assert place is None
        return
    assert place is not None
    assert {moved(module_of(key), *place) for key in keys} == {MODULES[0]}


def test_what_a_larger_model_has_for_images_is_left_out() -> None:
    inside = [key.replace(f"{PREFIX}model.", f"{PREFIX}model.language_model.") for key in KEYS[:2]]
    images = [
        key.replace(f"{PREFIX}model.", f"{PREFIX}model.vision_tower.encoder.") for key in KEYS[:2]
    ]
    found = canonical([*inside, *images], WHERE)
    assert list(found.names) == inside
    assert found.notes == ("2 tensors of what its base has for images are left out",)
    # An adapter of those alone is none of a language model's, and is not emptied.
    assert list(canonical(images, WHERE).names) == images


def test_parts_of_modules_are_those_of_peft() -> None:
    """Whatever PEFT adds to a module begins as one of ours does, for every method that is supported."""
    peft = pytest.importorskip("peft")
    from edgepeft.adapters.methods import all_methods

    prefixes = peft.mapping.PEFT_TYPE_TO_PREFIX_MAPPING
    kinds = {method.peft_type for method in all_methods().values()} - {None, "BOTTLENECK"}
    unmerged = {"PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING"}
    for kind in kinds - unmerged:
        assert prefixes[kind].startswith(TUNERS), kind
