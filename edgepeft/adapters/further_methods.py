"""PEFT's further methods that merge: nothing here but their names, hyperparameters and a word on each."""

from __future__ import annotations

from collections.abc import Mapping

from edgepeft.adapters.method import GRIDS, Grid, Option, TrainingMethod
from edgepeft.adapters.shared_options import CHOSEN, LAYERS, SAVED, number, switch, whole


def _simple(
    name: str,
    summary: str,
    *,
    peft_type: str | None = None,
    rank: int | None = None,
    alpha: str | None = None,
    dropout: str | None = None,
    grids: tuple[Grid, ...] = ("none",),
    modules: Mapping[str, Option] = LAYERS,
    **options: Option,
) -> TrainingMethod:
    """A declaration in a few words: which of the common settings PEFT has, and its own options."""
    given = {"rank": "r" if rank else None, "alpha": alpha, "dropout": dropout}
    return TrainingMethod(
        name=name,
        summary=summary,
        peft_type=peft_type or name.upper(),
        grids=grids,
        names={key: value for key, value in given.items() if value},
        defaults={"rank": rank or 16, "alpha": 32.0, "dropout": 0.0},
        options={**options, **modules},
    )


METHODS = (
    _simple(
        "boft",
        "butterfly-factorized rotations of the weights",
        dropout="boft_dropout",
        boft_block_size=whole("width of a rotated block"),
        boft_block_num=whole("number of blocks, instead of their size"),
        boft_n_butterfly_factor=whole("butterfly factors"),
    ),
    _simple(
        "oft",
        "block-diagonal rotations of the weights",
        grids=GRIDS,
        oft_block_size=whole("width of a rotated block"),
        r=whole("number of blocks, instead of their size"),
        coft=switch("keep rotations near the identity"),
        eps=number("how near"),
        block_share=switch("one rotation for all blocks"),
    ),
    _simple(
        "hra",
        "a chain of learned reflections of the weights",
        rank=8,
        apply_GS=switch("orthogonalize the reflections"),
    ),
    _simple(
        "c3a",
        "circular convolutions in blocks",
        modules=CHOSEN,
        grids=GRIDS,
        block_size=whole("a divisor of both sides of every weight"),
        block_size_pattern=Option((dict,), "block sizes of single modules"),
    ),
    _simple("deft", "the weight's part in a learned subspace replaced", rank=16),
    _simple(
        "delora",
        "LoRA of normalized directions with one learned strength",
        rank=8,
        delora_lambda=number("first strength"),
        module_dropout=number("share of the modules switched off in a step"),
    ),
    _simple(
        "fourierft",
        "a few learned coefficients of the update's spectrum",
        grids=GRIDS,
        n_frequency=whole("coefficients of a weight"),
        scaling=number("factor of the update"),
        random_loc_seed=whole("seed of their places"),
    ),
    _simple(
        "waveft",
        "a few learned wavelet coefficients of the update",
        grids=GRIDS,
        n_frequency=whole("coefficients of a weight"),
        scaling=number("factor of the update"),
        wavelet_family=Option((str,), "which wavelets"),
        random_loc_seed=whole("seed of their places"),
    ),
    _simple("glora", "scale and shift of weight and input, low-rank", modules=SAVED, rank=8),
    _simple(
        "gralora",
        "LoRA in blocks of its own",
        modules=CHOSEN,
        grids=GRIDS,
        rank=16,
        alpha="alpha",
        dropout="gralora_dropout",
        gralora_k=whole("blocks along a side; divides the rank"),
        hybrid_r=whole("further rank without blocks"),
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
        init_weights=Option((bool, str), "true, bat or mini", ("bat", "mini")),
        mini_r=whole("further rank of mini"),
    ),
    _simple(
        "pvera",
        "VeRA with a learned distribution instead of a vector",
        modules=CHOSEN,
        grids=GRIDS,
        rank=256,
        dropout="pvera_dropout",
        d_initial=number("first value of the inner vector"),
        projection_prng_key=whole("seed of the projections"),
        save_projection=switch("store the projections with the adapter"),
    ),
    _simple(
        "randlora",
        "full-rank updates from random bases with learned scales",
        modules=CHOSEN,
        grids=GRIDS,
        rank=32,
        alpha="randlora_alpha",
        dropout="randlora_dropout",
        projection_prng_key=whole("seed of the bases"),
        save_projection=switch("store the bases with the adapter"),
        sparse=switch("sparse bases"),
        very_sparse=switch("very sparse bases"),
    ),
    _simple(
        "road",
        "learned rotations of pairs of outputs",
        modules=SAVED,
        grids=GRIDS,
        variant=Option((str,), "road_1, road_2 or road_4", ("road_1", "road_2", "road_4")),
        group_size=whole("outputs that are paired"),
    ),
    _simple(
        "supertuning",
        "a sparse choice of each module's own weights",
        modules=SAVED,
        sparsity=number("share of the weights that stay as they are"),
        select_top=switch("train the largest rather than the smallest"),
        save_precomputed_indices=switch("store which weights with the adapter"),
    ),
    _simple(
        "tinylora",
        "a handful of numbers in the weight's own directions",
        modules=CHOSEN,
        rank=2,
        u=whole("size of the learned vector"),
        weight_tying=number("share of the modules that share one vector"),
        projection_seed=whole("seed of the projections"),
        save_projection=switch("store the projections with the adapter"),
    ),
    _simple(
        "vblora",
        "LoRA put together from one bank of vectors",
        grids=GRIDS,
        rank=4,
        dropout="vblora_dropout",
        num_vectors=whole("vectors in the bank"),
        vector_length=whole("their length; divides both sides of every weight"),
        topk=whole("vectors mixed for each part"),
    ),
)
