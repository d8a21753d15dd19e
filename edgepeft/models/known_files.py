"""The files that model and adapter folders hold, and what becomes of each: one table for all of them.

A file is used, or known to say nothing for a bundle, or worth a word with its reason. What is in no line of the
table is named as not used, so that nothing is left out of a build in silence.
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, NamedTuple

from edgepeft.errors import InputError
from edgepeft.utils.files import require_regular

Verdict = Literal["used", "nothing", "told"]


class Known(NamedTuple):
    """Files by a pattern of their names, folders with a slash at the end, and why they are told of."""

    patterns: tuple[str, ...]
    verdict: Verdict
    why: str = ""


_TOKENIZER = Known(
    (
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
        *("added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model"),
        *("spiece.model", "sentencepiece.bpe.model", "spm.model", "bpe.codes", "dict.txt"),
        *("chat_template.jinja", "chat_template.json", "additional_chat_templates/"),
    ),
    "used",
)
_OF_TRAINING = Known(
    (
        *("training_args.bin", "training_args.json", "trainer_state.json", "optimizer*.pt"),
        *("optimizer*.bin", "scheduler.pt", "rng_state*.pth", "random_states_*.pkl", "scaler.pt"),
        *("trainer_log.jsonl", "all_results.json", "train_results.json", "eval_results.json"),
        *("training_*.png", "training_*.yaml", "llamaboard_config.yaml", "global_step*/", "latest"),
        *("zero_to_fp32.py", "runs/", "logs/", "wandb/", "eval/", "events.out.tfevents*"),
        *("pytorch_model_fsdp*", "checkpoint-*/", "result.json", "*.log", "loss.png"),
        *("similarity_evaluation*.csv", "*_evaluation_*results.csv"),
    ),
    "nothing",
)
_ABOUT = Known(
    (
        *("*.md", "*.txt", "*.pdf", "*.rst", "LICENSE*", "LICENCE*", "NOTICE*", "COPYING*"),
        *("*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.webp", "assets/", "images/", "figures/"),
        *(".*", ".*/", "__pycache__/", "*.sha256", "checksums*", "MANIFEST*", "*.ipynb"),
    ),
    "nothing",
)
_OTHER_FORMS = Known(
    (
        *("pytorch_model*.bin", "pytorch_model*.bin.index.json", "*.h5", "*.msgpack", "*.ot"),
        *("*.msgpack.index.json", "*.onnx", "*.onnx_data", "*.tflite", "*.mlpackage/", "*.gguf"),
        *("onnx/", "openvino/", "coreml/", "gguf/", "original/", "tf_model/", "flax_model/"),
        *("consolidated*.pth", "consolidated*.safetensors", "consolidated*.json", "params.json"),
        *("*.pt", "*.pth", "*.ckpt", "*.npz", "mlx/", "quantize_config.json", "tekken.json"),
        *("openvino_*", "model.fp16.safetensors*", "model.*.safetensors", "int8/"),
    ),
    "nothing",
)
_CODE = "is code, which is never run; transformers' own class of the architecture is used"
_IMAGES = "is for images or sound, which no bundle takes"

MODEL_FILES: tuple[Known, ...] = (
    Known(
        (
            *("config.json", "generation_config.json", "model.safetensors"),
            *("model-*-of-*.safetensors", "model.safetensors.index.json", "README.md"),
            *("modules.json", "config_sentence_transformers.json", "sentence_*_config.json"),
            *("[0-9]_*/", "edgepeft.json", "edgepeft_training.json"),
        ),
        "used",
    ),
    _TOKENIZER,
    Known(("*.py",), "told", _CODE),
    Known(
        (
            *("preprocessor_config.json", "processor_config.json", "image_processor_config.json"),
            *("video_preprocessor_config.json", "feature_extractor_config.json"),
        ),
        "told",
        _IMAGES,
    ),
    Known(("adapter_model.safetensors", "adapter_model.bin"), "told", "is an adapter's"),
    Known(("*.jinja",), "told", "is a template that nothing names; data.template may"),
    _OF_TRAINING,
    _OTHER_FORMS,
    _ABOUT,
)
ADAPTER_FILES: tuple[Known, ...] = (
    Known(
        (
            *("adapter_config.json", "adapter_model.safetensors", "README.md"),
            *("edgepeft_training.json", "edgepeft_initial.safetensors", "edgepeft.json"),
            *("modules.json", "config_sentence_transformers.json", "sentence_*_config.json"),
            *("[0-9]_*/",),
        ),
        "used",
    ),
    _TOKENIZER,
    Known(("adapter_model.bin", "adapter_model.pt"), "nothing"),
    Known(
        ("config.json", "generation_config.json", "model.safetensors.index.json"),
        "nothing",
    ),
    Known(
        ("model.safetensors", "model-*-of-*.safetensors"),
        "told",
        "holds a model's weights; the base is the recipe's model",
    ),
    Known(("*.py",), "told", _CODE),
    Known(("new_embeddings.safetensors",), "told", "holds embeddings that PEFT does not load"),
    Known(("preprocessor_config.json", "processor_config.json"), "told", _IMAGES),
    _OF_TRAINING,
    _OTHER_FORMS,
    _ABOUT,
)


def verdict_of(name: str, table: tuple[Known, ...]) -> Known | None:
    """The first line of a table that names a file, or a folder with a slash at its end; None for none."""
    return next(
        (known for known in table if any(fnmatch(name, pattern) for pattern in known.patterns)),
        None,
    )


def file_notes(folder: Path, table: tuple[Known, ...]) -> list[str]:
    """What to say of a folder's files: those that are told of, and those that the table does not know.

    Raises InputError for one that would be used and is no file.
    """
    notes: list[str] = []
    unknown: list[str] = []
    for entry in sorted(folder.iterdir()):
        name = f"{entry.name}/" if entry.is_dir() else entry.name
        known = verdict_of(name, table)
        if known is not None and known.verdict == "used" and not entry.is_dir():
            require_regular(entry)
            if not entry.exists():
                raise InputError(f"{entry}: is a link to nothing; fetch the folder again")
        if known is None:
            unknown.append(name)
        elif known.verdict == "told":
            notes.append(f"{folder.name}: {name} {known.why}")
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        notes.append(f"{folder.name}: {', '.join(unknown[:5])}{more}: not known here, and not used")
    return notes
