"""Names of modules that wrappers and larger models leave on a model's parts."""

from __future__ import annotations

from collections.abc import Iterable

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Names that torch's wrappers of a module put before those of its parts, at any depth."""
PARALLEL = "module"
"""What DataParallel and DistributedDataParallel put before everything."""
LANGUAGE_MODELS = (
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("model.text_model.", "model."),
    ("model.model.", "model."),
    ("language_model.", ""),
    ("", "model."),
)
"""Places of a language model inside a larger one, and what its names begin with by itself."""

OLD_NAMES = (
    ("LayerNorm.gamma", "LayerNorm.weight"),
    ("LayerNorm.beta", "LayerNorm.bias"),
    ("embed_out.weight", "lm_head.weight"),
)
"""Names in checkpoints of BERT's and GPT-NeoX' time, and those that transformers reads them as."""


_GGUF_LAYERS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Linear layers of a block in a GGUF file, and what transformers calls them in models like Llama."""


def of_gguf(names: Iterable[str]) -> list[str] | None:
    """The linear layers of a GGUF file's blocks, by ``names`` without ``.weight``, as transformers calls them.

    None where there are others than models like Llama have: theirs only transformers knows.
    """
    parts = [name.split(".", 2) for name in names if name.startswith("blk.")]
    layers = [(part[1], part[2]) for part in parts if len(part) == 3]
    kinds = {kind for _, kind in layers}
    if not kinds <= _GGUF_LAYERS.keys():
        return None
    # Where both halves lie in one product, it has the name of the second.
    own = _GGUF_LAYERS if "ffn_gate" in kinds else {**_GGUF_LAYERS, "ffn_up": "mlp.gate_up_proj"}
    return [f"model.layers.{number}.{own[kind]}" for number, kind in layers]


def newer(name: str) -> str:
    """A tensor's name as it is called today."""
    for old, new in OLD_NAMES:
        name = name.replace(old, new)
    return name


def name_notes(names: Iterable[str]) -> list[str]:
    """What will be renamed of a checkpoint's tensors as the base is staged, each kind with an example."""
    found: dict[str, str] = {}
    for name in names:
        if unwrapped(name) != name:
            found.setdefault("a wrapper's prefix", name)
        if newer(name) != name:
            found.setdefault("an old version's name", name)
        if unwrapped(name).startswith(("model.language_model.", "language_model.")):
            found.setdefault("the prefix that it has inside a larger model", name)
    return [f"{name} has {what}, and is renamed" for what, name in found.items()]


def moved(name: str, inside: str, alone: str) -> str:
    """A module's name with the larger model's prefix ``inside`` replaced; others as they are."""
    return f"{alone}{name.removeprefix(inside)}" if name.startswith(inside) else name


def unwrapped(name: str) -> str:
    """A tensor's name without what wrappers of a module put before it."""
    parts = [part for part in name.split(".") if part not in WRAPPERS]
    while len(parts) > 1 and parts[0] == PARALLEL:
        del parts[0]
    return ".".join(parts)
