"""Tiny but real encoders and their data, as `tests.tiny` has decoders."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.tiny import (
    COLOURS,
    CORPUS,
    HIDDEN_SIZE,
    INTERMEDIATE_SIZE,
    VOCAB_SIZE,
    write_tiny_model,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

FAMILIES = ("bert", "roberta", "modernbert", "minilm")
LABELS = ("bright", "dark", "warm")
SEVERAL = ("dark", "even", "long")
TAGS = ("O", "B-thing", "I-thing", "B-number")
_OF_COLOUR = {"b": "dark", "g": "dark", "k": "dark", "p": "dark", "w": "bright", "y": "bright"}
_CONTEXT = 128


def write_tiny_encoder(
    folder: Path, family: str, *, head: str = "", labels: tuple[str, ...] = (), seed: int = 0
) -> Path:
    """Save a tiny encoder with its tokenizer into ``folder``, and return the folder.

    Two layers, hidden size 64. bert, roberta and modernbert come as they were pretrained, with a language-model
    head; minilm is a bare BERT with the files of sentence-transformers. ``head`` names another class, as
    ``SequenceClassification``, with ``labels``. The same arguments give the same bytes.
    """
    import torch

    model = _build(family, head, labels)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator) * 0.12
            parameter.copy_(noise + (1.0 if "norm" in name.lower() and "weight" in name else 0.0))
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.eval().save_pretrained(str(folder))
    _tokenizer(family).save_pretrained(str(folder))
    if family == "minilm" and not head:
        (folder / "1_Pooling").mkdir(exist_ok=True)
        pooling = {"word_embedding_dimension": HIDDEN_SIZE, "pooling_mode_mean_tokens": True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
        kinds = ("Transformer", "Pooling", "Normalize")
        modules = [
            {"idx": i, "type": f"sentence_transformers.models.{kind}"}
            for i, kind in enumerate(kinds)
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def write_sentence_files(folder: Path, mode: str, *modules: str, features: int = 32) -> Path:
    """Write files of sentence-transformers beside a model: its pooling, and ``modules`` after that.

    Dense modules make ``features`` numbers of what comes before them, the first with a bias and a tanh, others
    with neither.
    """
    import torch
    from safetensors.torch import save_file

    names = ["Transformer", "Pooling", *modules]
    places = ["", *(f"{index}_{name}" for index, name in enumerate(names) if index)]
    kinds = [f"sentence_transformers.models.{name}" for name in names]
    listed = [
        {"idx": index, "name": str(index), "path": place, "type": kind}
        for index, (place, kind) in enumerate(zip(places, kinds, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    said: dict[str, dict[str, Any]] = {
        "1_Pooling": {"word_embedding_dimension": HIDDEN_SIZE, f"pooling_mode_{mode}": True}
    }
    width, generator = HIDDEN_SIZE, torch.Generator().manual_seed(5)
    for place in places:
        (folder / place).mkdir(exist_ok=True)
        if not place.endswith("Dense"):
            continue
        first = width == HIDDEN_SIZE
        kind = "activation.Tanh" if first else "linear.Identity"
        said[place] = {"in_features": width, "out_features": features, "bias": first}
        said[place]["activation_function"] = f"torch.nn.modules.{kind}"
        tensors = {"linear.weight": torch.randn(features, width, generator=generator) * 0.2}
        if first:
            tensors["linear.bias"] = torch.randn(features, generator=generator)
        save_file(tensors, folder / place / "model.safetensors")
        width = features
    for place, config in said.items():
        (folder / place / "config.json").write_text(json.dumps(config))
    return folder


def write_tiny_classifier(folder: Path, family: str, labels: tuple[str, ...]) -> Path:
    """Save a tiny decoder of `tests.tiny`; with ``labels`` its head is one over them, not the vocabulary."""
    import torch
    import transformers

    write_tiny_model(folder, family)
    if labels:
        torch.manual_seed(1)
        options = {"id2label": dict(enumerate(labels)), "pad_token_id": 0}
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, **options)
        model.save_pretrained(str(folder))
    return folder


def write_encoder_data(
    folder: Path, task: str, rows: int = 24, *, paired: bool = False
) -> tuple[Path, Path]:
    """Write train.jsonl (``rows`` rows) and test.jsonl (half as many) for a task; returns both paths.

    ``paired`` gives classifiers a second text; rows of ``feature-extraction`` are triples then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(COLOURS)
    random.Random(0).shuffle(names)
    paths = []
    for name, first, count in (("train", 0, rows), ("test", rows, rows // 2)):
        path = folder / f"{name}.jsonl"
        made = [_row(task, names, number, paired=paired) for number in range(first, first + count)]
        path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
        paths.append(path)
    return paths[0], paths[1]


def _row(task: str, names: list[str], number: int, *, paired: bool) -> dict[str, Any]:
    thing, other = (names[at % len(names)] for at in (number, number + 1))
    text = f"What is the colour of {thing} (number {number})?"
    label = _OF_COLOUR.get(COLOURS[thing], "warm")
    more = {"text_pair": f"Turn on the light in the kitchen, {other}."} if paired else {}
    if task == "text-classification":
        return {"text": text, **more, "label": label}
    if task == "multi-label-classification":
        held = {"dark": label == "dark", "even": number % 2 == 0, "long": " " in thing}
        return {"text": text, **more, "labels": [name for name in SEVERAL if held[name]]}
    if task == "text-ranking":
        thing = names[number // 2 % len(names)]
        said = COLOURS[thing] if number % 2 else COLOURS[other]
        query = f"What is the colour of {thing}?"
        right = said == COLOURS[thing]
        return {"query": query, "passage": f"Number {number}: it is {said}.", "score": int(right)}
    if task == "feature-extraction":
        made = {"anchor": text, "positive": f"Number {number}: {thing} is {COLOURS[thing]}."}
        return {**made, "negative": f"Number {number} is {other}."} if paired else made
    words, tags = ["What", "is", "the", "colour", "of"], ["O"] * 5
    parts = thing.split()
    words += [*parts, "(", "number", str(number), ")", "?"]
    tags += ["B-thing", *["I-thing"] * (len(parts) - 1), "O", "O", "B-number", "O", "O"]
    return {"tokens": words, "tags": tags}


def _build(family: str, head: str, labels: tuple[str, ...]) -> PreTrainedModel:
    import transformers

    common: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": INTERMEDIATE_SIZE,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": _CONTEXT,
        "pad_token_id": 0,
    }
    if labels:
        common["id2label"] = dict(enumerate(labels))
    if family == "roberta":
        config: Any = transformers.RobertaConfig(
            **{**common, "pad_token_id": 1, "max_position_embeddings": _CONTEXT + 2},
            bos_token_id=2,
            eos_token_id=3,
        )
    elif family == "modernbert":
        # The second layer sees a few neighbours only, so that a mask left out is felt.
        config = transformers.ModernBertConfig(
            **common,
            global_attn_every_n_layers=2,
            local_attention=8,
            cls_token_id=2,
            sep_token_id=3,
            bos_token_id=2,
            eos_token_id=3,
        )
    else:
        config = transformers.BertConfig(**common)
    prefix = {"roberta": "Roberta", "modernbert": "ModernBert"}.get(family, "Bert")
    suffix = f"For{head}" if head else ("Model" if family == "minilm" else "ForMaskedLM")
    model: PreTrainedModel = getattr(transformers, prefix + suffix)(config)
    return model


def write_tokenizer(folder: Path, family: str) -> None:
    """Save a tiny encoder's tokenizer alone."""
    _tokenizer(family).save_pretrained(str(folder))


def _word_pieces() -> list[str]:
    """Every letter, alone and inside a word, and the corpus' words, as far as there is room.

    A trainer of word pieces breaks ties by chance.
    """
    words = [word for line in CORPUS for word in re.findall(r"[a-z]+", line.lower())]
    letters = sorted({char for line in CORPUS for char in line.lower() if char.isascii()} - {" "})
    pieces = [*letters, *(f"##{letter}" for letter in letters), *words]
    return list(dict.fromkeys(pieces))[: VOCAB_SIZE - 4]


def _tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Word pieces for BERT, byte-level pairs for the others, each with the special tokens of its kind."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if family in ("bert", "minilm"):
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        pieces = {piece: index for index, piece in enumerate((*special, *_word_pieces()))}
        inner = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
        inner.normalizer = normalizers.BertNormalizer(lowercase=True)
        inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        first, last = "[CLS]", "[SEP]"
    else:
        special = (
            ["<unk>", "<pad>", "<s>", "</s>"]
            if family == "roberta"
            else ["<pad>", "<unk>", "<s>", "</s>"]
        )
        inner = Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator(CORPUS, trainer)
        first, last = "<s>", "</s>"
    typed = family in ("bert", "minilm")
    inner.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B:1 {last}:1" if typed else f"{first} $A {last} {last} $B {last}",
        special_tokens=[(token, inner.token_to_id(token)) for token in (first, last)],
    )
    pad = next(token for token in special if "pad" in token.lower())
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=pad,
        cls_token=first,
        sep_token=last,
        model_input_names=["input_ids", *["token_type_ids"] * typed, "attention_mask"],
    )
