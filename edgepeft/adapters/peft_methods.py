"""The methods that merge: one declaration each, hyperparameters under PEFT's names."""

from __future__ import annotations

from collections.abc import Mapping

from edgepeft.adapters.method import GRIDS, Grid, Option, TrainingMethod

_FLOAT = (float, int)
_ANY = (bool, int, float, str, list, dict)
_SAVED = {
    "modules_to_save": Option(
        (list,), "modules trained and kept whole, as [embed_tokens, lm_head]"
    ),
}
_CHOSEN = {
    "layers_to_transform": Option((list, int), "indices of the layers that are adapted"),
    "layers_pattern": Option((str, list), "name of the list of layers, where PEFT can't tell"),
    **_SAVED,
}
_LAYERS = {
    "exclude_modules": Option((list, str), "modules left out of target_modules"),
    **_CHOSEN,
}
_TOKENS = {
    "trainable_token_indices": Option((list,), "ids of tokens whose embedding rows train as well"),
    "ensure_weight_tying": Option((bool,), "keep a tied head and embedding one in modules_to_save"),
}
_LORA = {
    "use_rslora": Option((bool,), "scale by alpha / sqrt(rank) (https://arxiv.org/abs/2312.03732)"),
    "use_dora": Option((bool,), "weight-decomposed LoRA (https://arxiv.org/abs/2402.09353)"),
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
    **_LAYERS,
    **_TOKENS,
}
_LORA_NAMES = {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}
_LORA_DEFAULTS = {"rank": 16, "alpha": 32.0, "dropout": 0.0}
_LYCORIS = {
    "rank_dropout": Option(_FLOAT, "share of the ranks dropped in a step"),
    "module_dropout": Option(_FLOAT, "share of the modules switched off in a step"),
    "rank_pattern": Option((dict,), "ranks of single modules"),
    "alpha_pattern": Option((dict,), "alphas of single modules"),
    **_LAYERS,
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


def _simple(
    name: str,
    summary: str,
    *,
    peft_type: str | None = None,
    rank: int | None = None,
    alpha: str | None = None,
    dropout: str | None = None,
    grids: tuple[Grid, ...] = ("none",),
    modules: Mapping[str, Option] = _LAYERS,
    **options: str,
) -> TrainingMethod:
    """A declaration in a few words: which of the common settings PEFT has, and a help text for each option."""
    given = {"rank": "r" if rank else None, "alpha": alpha, "dropout": dropout}
    return TrainingMethod(
        name=name,
        summary=summary,
        peft_type=peft_type or name.upper(),
        grids=grids,
        names={key: value for key, value in given.items() if value},
        defaults={"rank": rank or 16, "alpha": 32.0, "dropout": 0.0},
        options={**{key: Option(_ANY, text) for key, text in options.items()}, **modules},
    )


def _others() -> tuple[TrainingMethod, ...]:
    """PEFT's further methods that merge: nothing here but their names, hyperparameters and a word on each."""
    return (
        _simple(
            "boft",
            "butterfly-factorized rotations of the weights",
            dropout="boft_dropout",
            boft_block_size="width of a rotated block",
            boft_block_num="number of blocks, instead of their size",
            boft_n_butterfly_factor="butterfly factors",
        ),
        _simple(
            "oft",
            "block-diagonal rotations of the weights",
            grids=GRIDS,
            oft_block_size="width of a rotated block",
            r="number of blocks, instead of their size",
            coft="keep rotations near the identity",
            eps="how near",
            block_share="one rotation for all blocks",
        ),
        _simple(
            "hra",
            "a chain of learned reflections of the weights",
            rank=8,
            apply_GS="orthogonalize the reflections",
        ),
        _simple(
            "c3a",
            "circular convolutions in blocks",
            modules=_CHOSEN,
            grids=GRIDS,
            block_size="a divisor of both sides of every weight",
            block_size_pattern="block sizes of single modules",
        ),
        _simple("deft", "the weight's part in a learned subspace replaced", rank=16),
        _simple(
            "delora",
            "LoRA of normalized directions with one learned strength",
            rank=8,
            delora_lambda="first strength",
            module_dropout="share of the modules switched off in a step",
        ),
        _simple(
            "fourierft",
            "a few learned coefficients of the update's spectrum",
            grids=GRIDS,
            n_frequency="coefficients of a weight",
            scaling="factor of the update",
            random_loc_seed="seed of their places",
        ),
        _simple(
            "waveft",
            "a few learned wavelet coefficients of the update",
            grids=GRIDS,
            n_frequency="coefficients of a weight",
            scaling="factor of the update",
            wavelet_family="which wavelets",
            random_loc_seed="seed of their places",
        ),
        _simple("glora", "scale and shift of weight and input, low-rank", modules=_SAVED, rank=8),
        _simple(
            "gralora",
            "LoRA in blocks of its own",
            modules=_CHOSEN,
            grids=GRIDS,
            rank=16,
            alpha="alpha",
            dropout="gralora_dropout",
            gralora_k="blocks along a side; divides the rank",
            hybrid_r="further rank without blocks",
        ),
        _simple(
            "hira",
            "the weight times a low-rank update, element by element",
            grids=GRIDS,
            rank=16,
            dropout="hira_dropout",
        ),
        _simple(
            "miss",
            "one small matrix shared by shards of the input",
            grids=GRIDS,
            rank=16,
            dropout="miss_dropout",
            init_weights="true, bat or mini",
            mini_r="further rank of mini",
        ),
        _simple(
            "pvera",
            "VeRA with a learned distribution instead of a vector",
            modules=_CHOSEN,
            grids=GRIDS,
            rank=256,
            dropout="pvera_dropout",
            d_initial="first value of the inner vector",
            projection_prng_key="seed of the projections",
            save_projection="store the projections with the adapter",
        ),
        _simple(
            "randlora",
            "full-rank updates from random bases with learned scales",
            modules=_CHOSEN,
            grids=GRIDS,
            rank=32,
            alpha="randlora_alpha",
            dropout="randlora_dropout",
            projection_prng_key="seed of the bases",
            save_projection="store the bases with the adapter",
            sparse="sparse bases",
            very_sparse="very sparse bases",
        ),
        _simple(
            "road",
            "learned rotations of pairs of outputs",
            modules=_SAVED,
            grids=GRIDS,
            variant="road_1, road_2 or road_4",
            group_size="outputs that are paired",
        ),
        _simple(
            "supertuning",
            "a sparse choice of each module's own weights",
            modules=_SAVED,
            sparsity="share of the weights that stay as they are",
            select_top="train the largest rather than the smallest",
            save_precomputed_indices="store which weights with the adapter",
        ),
        _simple(
            "tinylora",
            "a handful of numbers in the weight's own directions",
            modules=_CHOSEN,
            rank=2,
            u="size of the learned vector",
            weight_tying="share of the modules that share one vector",
            projection_seed="seed of the projections",
            save_projection="store the projections with the adapter",
        ),
        _simple(
            "vblora",
            "LoRA put together from one bank of vectors",
            grids=GRIDS,
            rank=4,
            dropout="vblora_dropout",
            num_vectors="vectors in the bank",
            vector_length="their length; divides both sides of every weight",
            topk="vectors mixed for each part",
        ),
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
            "init_r": Option((int,), "rank of every module before any is taken away"),
            "tinit": Option((int,), "steps before ranks are taken away"),
            "tfinal": Option((int,), "steps at the end in which the ranks stay"),
            "deltaT": Option((int,), "steps between two allocations"),
            "beta1": Option(_FLOAT, "smoothing of the sensitivity"),
            "beta2": Option(_FLOAT, "smoothing of its uncertainty"),
            "orth_reg_weight": Option(_FLOAT, "weight of the factors' orthogonality in the loss"),
            **_LAYERS,
        },
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
            "decompose_both": Option((bool,), "make both factors low-rank"),
            "decompose_factor": Option((int,), "size of the smaller factor; -1: near the root"),
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
            "d_initial": Option(_FLOAT, "first value of the inner vector"),
            "projection_prng_key": Option((int,), "seed of the projections"),
            "save_projection": Option((bool,), "store the projections with the adapter"),
            **_CHOSEN,
        },
    ),
    TrainingMethod(
        name="ia3",
        summary="one learned factor for each key, value and inner activation",
        peft_type="IA3",
        modules=("k_proj", "v_proj", "qkv_proj", "down_proj"),
        options={
            "feedforward_modules": Option((list,), "target modules whose input is scaled"),
            **_SAVED,
        },
    ),
    TrainingMethod(
        name="ln_tuning",
        summary="the weights of the norms themselves",
        peft_type="LN_TUNING",
        modules="norms",
        options=_SAVED,
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
    *_others(),
)
