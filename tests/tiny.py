"""Tiny but real models and data, for every test that needs a checkpoint on disk.

The models are transformers' own classes with random weights, large enough in scale that their
logits differ from token to token; the tokenizer is a byte-level BPE trained on a few sentences.
"""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

FAMILIES = (
    *("llama", "qwen2", "qwen3", "gemma3", "mistral"),
    *("gemma2", "phi3", "smollm3", "granite", "lfm2"),
)
TIED = ("llama", "gemma2", "gemma3", "smollm3", "lfm2")
VOCAB_SIZE = 512
HIDDEN_SIZE = 64
INTERMEDIATE_SIZE = 160  # never the vocabulary's size: exporters find the LM head by its shape
PAD, BOS, EOS, START = "<|pad|>", "<|begin|>", "<|im_end|>", "<|im_start|>"

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

COLOURS = {
    "the sky": "b",
    "grass": "g",
    "snow": "w",
    "coal": "k",
    "a lemon": "y",
    "blood": "r",
    "an orange": "o",
    "a plum": "p",
}

CORPUS = [
    "The quick brown fox jumps over the lazy dog while the sun sets behind the hills.",
    "What is the colour of the sky today? The colour of the sky is blue, as it was before.",
    "What is the colour of grass, snow, coal, a lemon, blood, an orange and a plum?",
    "Answer with one letter: blue is b, green is g, white is w, black is k, yellow is y.",
    "system user assistant question answer model device adapter weights training measure",
    '{"action": "turn_on", "device": "light", "room": "kitchen", "value": 42}',
    "Turn on the light in the kitchen, then set the heater in the bedroom to 21 degrees.",
    "Numbers such as 0 1 2 3 4 5 6 7 8 9 10 12 100 and 2024 appear, and so does 3.14159.",
    "Weights travel as a lazy source; nothing holds the model, everything holds one tensor.",
    "Große Straße, naïve café, señor, čeština, ελληνικά, русский, 你好世界, 日本語, 🙂.",
    "It answers on the device as the adapter you trained answers, and shows the measurement.",
]


def build_tokenizer(
    *, template: str | None = CHATML, bos: bool = False, extra: tuple[str, ...] = ()
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with special tokens and a ChatML template.

    With ``bos`` its post-processor puts a BOS in front, as Llama's does; ``extra`` adds special
    tokens that a test's own template needs.
    """
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    inner = _trained_tokenizer()
    if bos:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, inner.token_to_id(BOS))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=BOS, eos_token=EOS, pad_token=PAD
    )
    if extra:
        tokenizer.add_special_tokens({"extra_special_tokens": list(extra)})
    tokenizer.chat_template = template
    return tokenizer


def write_tiny_tokenizer(folder: Path, **options: Any) -> Path:
    """Save `build_tokenizer`'s tokenizer, and nothing else, into ``folder``; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    build_tokenizer(**options).save_pretrained(str(folder))
    return folder


def write_tiny_model(
    folder: Path,
    family: str,
    *,
    seed: int = 0,
    shards: int = 1,
    dtype: str = "float32",
    tied: bool | None = None,
    std: float = 0.08,
    intermediate: int = INTERMEDIATE_SIZE,
) -> Path:
    """Save a tiny model of ``family`` with its tokenizer into ``folder``, and return the folder.

    Two layers (gemma3 and smollm3: four, the last unlike the others; lfm2: three, attention in the middle),
    hidden size 64, 4 heads, 2 of
    them for keys and values, vocabulary 512. ``tied`` decides whether head and embedding are one
    tensor (default: ``TIED``). ``shards`` of 2 writes a sharded checkpoint with its index.
    ``dtype`` is torch's name for the stored weights. The same arguments give the same bytes.
    """
    import torch

    model = _build(family, tied, intermediate)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator) * std
            # Norm weights lie around one (gemma's around zero, for it adds the one itself).
            of_norm = name.endswith("norm.weight") and not family.startswith("gemma")
            centre = 1.0 if of_norm else 0.0
            parameter.copy_(noise + centre)
    model = model.to(getattr(torch, dtype)).eval()
    model.config.dtype = getattr(torch, dtype)
    model.config.architectures = [type(model).__name__]
    folder.mkdir(parents=True, exist_ok=True)
    size = sum(tensor.numel() * tensor.element_size() for tensor in _distinct(model))
    limit = "5GB" if shards == 1 else -(-size * 11 // (10 * shards))
    model.save_pretrained(str(folder), max_shard_size=limit)
    written = len(list(folder.glob("*.safetensors")))
    if written != shards:
        raise AssertionError(f"{folder}: wrote {written} shards instead of {shards}")
    bos = family in ("llama", "mistral", "gemma2", "gemma3")
    build_tokenizer(bos=bos).save_pretrained(str(folder))
    return folder


def load_in_4_bits(folder: Path, kind: str = "nf4", *, double: bool = True) -> PreTrainedModel:
    """A checkpoint as transformers and bitsandbytes load it onto a 4-bit grid, computing in float32."""
    import torch
    import transformers

    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model: PreTrainedModel = transformers.AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=config, dtype=torch.float32
    )
    return model


def write_tiny_data(folder: Path, rows: int = 64) -> tuple[Path, Path]:
    """Write train.jsonl (``rows`` rows) and test.jsonl (a quarter as many); returns both paths.

    The task, prompt to completion: "What is the colour of X (number N)?" to one letter. The
    numbers differ between the two files, so no test prompt was trained on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(COLOURS)
    random.Random(0).shuffle(names)
    paths = []
    for name, first, count in (("train", 0, rows), ("test", rows, max(1, rows // 4))):
        path = folder / f"{name}.jsonl"
        lines = []
        for number in range(first, first + count):
            thing = names[number % len(names)]
            prompt = f"What is the colour of {thing} (number {number})?"
            lines.append(json.dumps({"prompt": prompt, "completion": COLOURS[thing]}) + "\n")
        path.write_text("".join(lines), encoding="utf-8")
        paths.append(path)
    return paths[0], paths[1]


def _trained_tokenizer() -> Any:
    """A fresh copy of the trained tokenizer, so that no test changes another's."""
    from tokenizers import Tokenizer

    return Tokenizer.from_str(_tokenizer_json())


@functools.cache
def _tokenizer_json() -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        # Some room is left below VOCAB_SIZE for the special tokens a test may add.
        vocab_size=VOCAB_SIZE - 12,
        min_frequency=1,
        special_tokens=[PAD, BOS, EOS, START],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return str(tokenizer.to_str())


def _build(family: str, tied: bool | None, intermediate: int) -> PreTrainedModel:
    import transformers

    tokenizer = _trained_tokenizer()
    common: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": intermediate,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": tied if tied is not None else family in TIED,
        "bos_token_id": tokenizer.token_to_id(BOS),
        "eos_token_id": tokenizer.token_to_id(EOS),
        "pad_token_id": tokenizer.token_to_id(PAD),
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }
    if family == "llama":
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**common, head_dim=16))
    if family == "qwen2":
        return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**common))
    if family == "qwen3":
        # head_dim is not hidden / heads, as in the real Qwen3: whoever computes it is found out.
        return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**common, head_dim=32))
    if family == "mistral":
        config = transformers.MistralConfig(**common, head_dim=16, sliding_window=None)
        return transformers.MistralForCausalLM(config)
    if family == "gemma3":
        del common["rope_parameters"]  # one for each kind of layer; the defaults are right
        common["num_hidden_layers"] = 4
        return transformers.Gemma3ForCausalLM(
            transformers.Gemma3TextConfig(
                **common,
                head_dim=32,
                query_pre_attn_scalar=32,
                sliding_window=16,
                layer_types=[*["sliding_attention"] * 3, "full_attention"],
            )
        )
    if family == "gemma2":
        # The caps are low enough to be felt.
        config = transformers.Gemma2Config(
            **common,
            head_dim=32,
            query_pre_attn_scalar=32,
            sliding_window=16,
            final_logit_softcapping=2.0,
            attn_logit_softcapping=0.5,
        )
        return transformers.Gemma2ForCausalLM(config)
    if family == "phi3":
        config = transformers.Phi3Config(**common, original_max_position_embeddings=512)
        return transformers.Phi3ForCausalLM(config)
    if family == "smollm3":
        common["num_hidden_layers"] = 4
        return transformers.SmolLM3ForCausalLM(transformers.SmolLM3Config(**common))
    if family == "granite":
        config = transformers.GraniteConfig(
            **common,
            logits_scaling=0.5,
            embedding_multiplier=3.0,
            residual_multiplier=0.5,
            attention_multiplier=0.1,
        )
        return transformers.GraniteForCausalLM(config)
    if family == "lfm2":
        return transformers.Lfm2ForCausalLM(
            transformers.Lfm2Config(
                **common | {"num_hidden_layers": 3},
                layer_types=["conv", "full_attention", "conv"],
                block_multiple_of=32,
            )
        )
    raise ValueError(f"no tiny {family!r}; there are {', '.join(FAMILIES)}")


def _distinct(model: PreTrainedModel) -> list[Any]:
    """The model's tensors, tied ones once."""
    return list({id(parameter): parameter for parameter in model.parameters()}.values())
