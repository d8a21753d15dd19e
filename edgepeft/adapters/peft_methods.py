"""The usual methods that merge: one declaration each, hyperparameters under PEFT's names."""

from __future__ import annotations

import math
from collections.abc import Mapping

from edgepeft.adapters.config_fields import BIASES
from edgepeft.adapters.method import Option, TrainingMethod
from edgepeft.adapters.shared_options import (
    CHOSEN,
    FEED_FORWARD,
    LAYERS,
    SAVED,
    number,
    switch,
    whole,
)

_TOKENS = {
    "trainable_token_indices": Option((list,), "ids of tokens whose embedding rows train as well"),
    "ensure_weight_tying": switch("keep a tied head and embedding one"),
}
_LORA = {
    "use_rslora": switch("scale by alpha / sqrt(rank) (https://arxiv.org/abs/2312.03732)"),
    "use_dora": switch("weight-decomposed LoRA (https://arxiv.org/abs/2402.09353)"),
    "init_lora_weights": Option(
        (bool, str),
        "start of the factors: true, gaussian, orthogonal, pissa, pissa_niter_4, olora or loftq",
        (
            "gaussian",
            "orthogonal",
            "olora",
            "loftq",
            "pissa",
            *(f"pissa_niter_{n}" for n in range(1, 65)),
        ),
    ),
    "rank_pattern": Option((dict,), "ranks of single modules, by name or expression"),
    "alpha_pattern": Option((dict,), "alphas of single modules, by name or expression"),
    "bias": Option(
        (str,),
        "biases of the base that train as well: none, all or lora_only",
        BIASES,
    ),
    "lora_bias": switch("a bias in each module's second factor; all of them must have one"),
    "target_parameters": Option((list,), "parameters adapted by name, as down_proj.weight"),
    **LAYERS,
    **_TOKENS,
}
_LORA_NAMES = {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}
_LORA_DEFAULTS = {"rank": 16, "alpha": 32.0, "dropout": 0.0}
_LYCORIS = {
    "rank_dropout": number("share of the ranks dropped in a step"),
    "module_dropout": number("share of the modules switched off in a step"),
    "rank_pattern": Option((dict,), "ranks of single modules"),
    "alpha_pattern": Option((dict,), "alphas of single modules"),
    **LAYERS,
}


def _falling_ranks(common: Mapping[str, float], steps: int) -> dict[str, int]:
    """AdaLoRA's budget, which falls from half as much again over the middle of a training, as PEFT has it."""
    return {
        "init_r": math.ceil(1.5 * int(common["rank"])),
        "tinit": steps // 10,
        "tfinal": steps // 3,
        "deltaT": 1,
        "total_step": steps,
    }


def _lora(name: str, summary: str, **changes: object) -> TrainingMethod:
    return TrainingMethod(
        name=name,
        summary=summary,
        peft_type="LORA",
        names=_LORA_NAMES,
        defaults=_LORA_DEFAULTS,
        options=_LORA,
        **changes,  # type: ignore[arg-type]
    )


METHODS = (
    _lora("qlora", "LoRA on a base held in 4-bit NF4, double-quantized", grid="nf4"),
    _lora("lora", "low-rank update of every linear layer, base at full precision"),
    _lora(
        "rslora", "LoRA scaled by alpha / sqrt(rank), for large ranks", fixed={"use_rslora": True}
    ),
    _lora(
        "dora",
        "LoRA with the length of each row learned apart",
        fixed={"use_dora": True},
        grids=("none", "nf4", "fp4"),
    ),
    TrainingMethod(
        name="adalora",
        summary="LoRA whose rank is shared out among the modules by importance",
        peft_type="ADALORA",
        names={"rank": "target_r", "alpha": "lora_alpha", "dropout": "lora_dropout"},
        defaults=_LORA_DEFAULTS,
        options={
            "init_r": whole("rank of every module before any is taken away"),
            "tinit": whole("steps before ranks are taken away"),
            "tfinal": whole("steps at the end in which the ranks stay"),
            "deltaT": whole("steps between two allocations"),
            "beta1": number("smoothing of the sensitivity"),
            "beta2": number("smoothing of its uncertainty"),
            "orth_reg_weight": number("weight of the factors' orthogonality in the loss"),
            **LAYERS,
        },
        paced=_falling_ranks,
        hooks="edgepeft.training.adalora:AdaLora",
    ),
    TrainingMethod(
        name="loha",
        summary="product of two low-rank updates, element by element",
        peft_type="LOHA",
        names={"rank": "r", "alpha": "alpha"},
        defaults=_LORA_DEFAULTS,
        grids=("none",),
        options=_LYCORIS,
    ),
    TrainingMethod(
        name="lokr",
        summary="Kronecker product of a small matrix and a low-rank one",
        peft_type="LOKR",
        names={"rank": "r", "alpha": "alpha"},
        defaults=_LORA_DEFAULTS,
        grids=("none",),
        options={
            "decompose_both": switch("make both factors low-rank"),
            "decompose_factor": whole("size of the smaller factor; -1: near the root"),
            **_LYCORIS,
        },
    ),
    TrainingMethod(
        name="vera",
        summary="two learned vectors around random projections that all layers share",
        peft_type="VERA",
        names={"rank": "r", "dropout": "vera_dropout"},
        defaults={"rank": 256, "dropout": 0.0},
        options={
            "d_initial": number("first value of the inner vector"),
            "projection_prng_key": whole("seed of the projections"),
            "save_projection": switch("store the projections with the adapter"),
            **CHOSEN,
        },
    ),
    TrainingMethod(
        name="ia3",
        summary="one learned factor for each key, value and inner activation",
        peft_type="IA3",
        modules=("k_proj", "v_proj", "qkv_proj", *FEED_FORWARD),
        options={
            "feedforward_modules": Option((list,), "target modules whose input is scaled"),
            **SAVED,
        },
    ),
    TrainingMethod(
        name="ln_tuning",
        summary="the weights of the norms themselves",
        peft_type="LN_TUNING",
        modules="norms",
        options=SAVED,
    ),
    TrainingMethod(
        name="trainable_tokens",
        summary="the embedding rows of named tokens, and the head's where the two are tied",
        peft_type="TRAINABLE_TOKENS",
        modules="embedding",
        options={"token_indices": Option((list,), "ids of the tokens that train")},
    ),
    TrainingMethod(
        name="full",
        summary="every weight: the baseline the others are measured by",
        peft_type=None,
        grids=("none",),
    ),
)
