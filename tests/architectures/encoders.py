"""Encoders with the options of their configurations, each to a float bundle beside torch.

``python -m tests.architectures.encoders FOLDER``; each case leaves ``result.json`` or what it raised.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from edgepeft.checkpoints import encoder_base
from edgepeft.models.tasks import CLASSIFICATION, EMBEDDING, ENCODER_TASKS, TAGGING, Task
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.encoder import EncoderSession
from edgepeft.targets import find_target
from tests.stages import carry_cases, run_stage
from tests.tiny_encoders import LABELS, write_tokenizer

LENGTHS = (10, 100)
_SUFFIX = {
    CLASSIFICATION: "ForSequenceClassification",
    TAGGING: "ForTokenClassification",
    EMBEDDING: "Model",
}
_COMMON: Mapping[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
_FROM_PADDING = {
    "pad_token_id": 1,
    "max_position_embeddings": 130,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
_OWN: Mapping[str, Mapping[str, Any]] = {
    "Bert": {},
    "Roberta": _FROM_PADDING,
    "ModernBert": {
        **{"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
        **{"local_attention": 8, "global_attn_every_n_layers": 2},
    },
    **{family: {"num_key_value_heads": 2} for family in ("Llama", "Qwen2", "Qwen3")},
    **dict.fromkeys(("XLMRoberta", "Camembert"), _FROM_PADDING),
    "MPNet": {
        "pad_token_id": 1,
        "max_position_embeddings": 130,
    },
    "Electra": {"embedding_size": 32},
    **{family: {} for family in ("NomicBert", "Gte")},
    "Albert": {"embedding_size": 32},
    "DistilBert": {"dim": 64, "hidden_dim": 160, "n_layers": 2, "n_heads": 4},
    "Deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    # As DeBERTa v3 has them.
    "DebertaV2": {
        **{"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True},
        **{"position_buckets": 16, "norm_rel_ebd": "layer_norm", "position_biased_input": False},
        **{"type_vocab_size": 0, "pooler_hidden_size": 64},
    },
}
_TOKENIZERS = {
    **dict.fromkeys(("Bert", "Electra", "DistilBert", "MPNet"), "bert"),
    **dict.fromkeys(("XLMRoberta", "Camembert"), "roberta"),
    **dict.fromkeys(("NomicBert", "Gte"), "bert"),
}
_ADAPTED = {
    **{
        family: ["query", "value"]
        for family in ("Bert", "Roberta", "XLMRoberta", "Camembert", "Electra", "Albert")
    },
    **{family: ["q_proj", "down_proj"] for family in ("Llama", "Qwen2", "Qwen3")},
    **{family: ["q_proj", "down_proj"] for family in ("NomicBert", "Gte")},
    "ModernBert": ["Wqkv", "Wo"],
    "MPNet": ["q", "v"],
    "DistilBert": ["q_lin", "v_lin"],
    "Deberta": ["in_proj"],
    "DebertaV2": ["query_proj", "value_proj"],
}


@dataclass(frozen=True)
class Case:
    """An encoder: transformers' name of its family, its configuration beside the common one, how it is kept."""

    family: str
    config: Mapping[str, Any] = field(default_factory=dict)
    stray: Mapping[str, Any] = field(default_factory=dict)
    task: Task = CLASSIFICATION
    dtype: str = "float32"


def _rotary(full: float, local: float) -> dict[str, Any]:
    return {
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": full},
            "sliding_attention": {"rope_type": "default", "rope_theta": local},
        }
    }


# Exporting a graph is most of what a case costs, so options that do not hide each other share one.
CASES = {
    "bert-relu": Case("Bert", {"hidden_act": "relu", "layer_norm_eps": 1e-3}, dtype="bfloat16"),
    "bert-tanh": Case("Bert", {"hidden_act": "tanh", "type_vocab_size": 1}, task=TAGGING),
    "bert-narrow": Case(
        "Bert",
        {"hidden_size": 72, "num_attention_heads": 6, "intermediate_size": 100},
        stray={"sliding_window": 4, "hidden_activation": "relu"},
    ),
    "bert-vocab-is-hidden": Case(
        "Bert", {"hidden_size": 512, "num_attention_heads": 8}, task=EMBEDDING
    ),
    "roberta-other-padding": Case("Roberta", {"pad_token_id": 0}, task=EMBEDDING),
    "roberta-float16": Case("Roberta", dtype="float16", task=TAGGING),
    "modernbert-first-token": Case(
        "ModernBert",
        {
            "classifier_pooling": "cls",
            "hidden_activation": "silu",
            "classifier_activation": "relu",
        },
    ),
    "modernbert-biases": Case(
        "ModernBert",
        {
            "classifier_pooling": "mean",
            **dict.fromkeys(("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"), True),
        },
    ),
    "modernbert-all-global": Case(
        "ModernBert",
        {"global_attn_every_n_layers": 1},
        stray={"rope_parameters": None, "global_rope_theta": 77.0, "local_rope_theta": 12.0},
        task=TAGGING,
    ),
    "modernbert-odd-window": Case(
        "ModernBert",
        {"local_attention": 7, "global_attn_every_n_layers": 3, "num_hidden_layers": 4},
        task=EMBEDDING,
    ),
    "modernbert-rotary": Case("ModernBert", _rotary(77.0, 12.0)),
    "xlm-roberta": Case("XLMRoberta", task=EMBEDDING),
    "camembert": Case("Camembert", task=TAGGING),
    "mpnet": Case("MPNet", task=EMBEDDING),
    "mpnet-other-padding": Case("MPNet", {"pad_token_id": 0}),
    "electra": Case("Electra"),
    "electra-as-wide": Case(
        "Electra", {"embedding_size": 64, "summary_type": "first"}, task=TAGGING
    ),
    "albert": Case("Albert", {"num_hidden_layers": 3}),
    "albert-groups": Case(
        "Albert",
        {"num_hidden_groups": 2, "inner_group_num": 2, "num_hidden_layers": 4},
        task=EMBEDDING,
    ),
    "distilbert": Case("DistilBert"),
    "distilbert-sines": Case("DistilBert", {"sinusoidal_pos_embds": True}, task=TAGGING),
    "deberta": Case("Deberta"),
    "deberta-absolute": Case(
        "Deberta", {"relative_attention": False, "type_vocab_size": 2}, task=TAGGING
    ),
    "deberta-v3": Case("DebertaV2"),
    "deberta-v2-convolution": Case(
        "DebertaV2",
        {"conv_kernel_size": 3, "conv_act": "gelu", "share_att_key": False, "position_buckets": -1},
        task=TAGGING,
    ),
    "nomic-bert": Case("NomicBert", task=EMBEDDING),
    "nomic-bert-labels": Case("NomicBert", {"hidden_act": "gelu", "head_dim": 32}),
    "gte": Case("Gte", task=EMBEDDING),
    "gte-labels": Case("Gte", {"type_vocab_size": 2, "hidden_act": "silu"}),
    "llama-biases": Case(
        "Llama",
        {
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4},
        },
    ),
    "llama-partly-rotated": Case(
        "Llama",
        {
            "head_dim": 20,
            "rope_parameters": {
                "rope_type": "default",
                "partial_rotary_factor": 0.5,
                "rope_theta": 1e4,
            },
        },
        stray={"sliding_window": 4, "attn_logit_softcapping": 1.0},
    ),
    "qwen2-window": Case(
        "Qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
    ),
    "qwen3-heads": Case("Qwen3", {"head_dim": 32}),
}


def carry(case: Case, root: Path) -> None:
    """One case: its float bundle beside the unmerged adapter in torch."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoConfig

    from edgepeft_exporters.encoder import stage as export_stage

    task = ENCODER_TASKS[case.task]
    folder = write_case(case, root / "model")
    labels = list(AutoConfig.from_pretrained(folder).id2label.values())
    labels = labels if case.task != EMBEDDING else []
    base = run_stage(
        encoder_base.run, root / "base", {"task": case.task, "labels": labels}, {"model": folder}
    )
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=_ADAPTED[case.family],
        task_type=task.peft_type,
        init_lora_weights=False,
    )
    torch.manual_seed(0)
    get_peft_model(load(folder, task.auto_class), config).save_pretrained(root / "adapter")
    settings = {
        "merge": {"base": "dequantized", "grid": "none", "allow_base_mismatch": True},
        "target": replace(find_target("cpu-fp32"), exporter="encoder").as_dict(),
        "accuracy_level": 0,
        "template": "auto",
        "base_name": case.family,
        "layout": "all",
    }
    inputs = {"base": base, "adapter": root / "adapter"}
    out = run_stage(export_stage.run, root / "out", settings, inputs, kind="bundle")
    session = EncoderSession(Bundle.open(out, check="sizes"), threads=1)
    wrapped = PeftModel.from_pretrained(load(folder, task.auto_class), root / "adapter").eval()
    differences = []
    for length in LENGTHS:
        ids = torch.randint(5, 500, (1, length), generator=torch.Generator().manual_seed(length))
        with torch.no_grad():
            output = wrapped(input_ids=ids, attention_mask=torch.ones_like(ids))
        wanted = getattr(output, task.output)[0].numpy()
        differences.append(float(np.abs(session.run(ids[0].tolist()) - wanted).max()))
    result = {
        "differences": differences,
        "padded": _padded(out, wrapped, task.output),
        "spread": float(wanted.std()),
    }
    (root / "result.json").write_text(json.dumps(result))


def _padded(out: Path, wrapped: Any, output: str) -> float:
    """The largest difference where a short text is filled up beside a longer one, as browsers batch texts."""
    [graph] = (out / "onnx").glob("*.onnx")
    runner = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    padding = wrapped.config.pad_token_id
    ids = torch.randint(5, 500, (2, 24), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    ids[0, 9:], mask[0, 9:] = padding, 0
    (found,) = runner.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
    with torch.no_grad():
        wanted = getattr(wrapped(input_ids=ids, attention_mask=mask), output).numpy()
    off = np.abs(found - wanted)
    if off.ndim == 3:
        off = off[mask.numpy() > 0]
    return float(off.max())


def load(folder: Path, auto_class: str) -> Any:
    """The stored model as transformers loads it, in float32."""
    import transformers

    return getattr(transformers, auto_class).from_pretrained(folder, dtype=torch.float32)


def write_case(case: Case, folder: Path) -> Path:
    """Save the model of a case with its tokenizer into ``folder``, and return the folder."""
    import transformers

    config = getattr(transformers, f"{case.family}Config")(
        **{**_COMMON, **_OWN[case.family], **case.config}
    )
    if case.task != EMBEDDING:
        config.id2label = dict(enumerate(LABELS))
        config.label2id = {label: index for index, label in enumerate(LABELS)}
    model = getattr(transformers, case.family + _SUFFIX[case.task])(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            around_one = "norm" in name.lower() and "weight" in name
            noise = torch.randn(parameter.shape, generator=generator) * 0.12
            parameter.copy_(noise + (1.0 if around_one else 0.0))
    model.to(getattr(torch, case.dtype)).save_pretrained(folder)
    write_tokenizer(folder, _TOKENIZERS.get(case.family, case.family.lower()))
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **case.stray}))
    return folder


if __name__ == "__main__":
    carry_cases(carry, CASES, Path(sys.argv[1]))
