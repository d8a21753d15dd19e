"""Encoders and decoders that classify, through torch's exporter over a skeleton without weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepeft.models import ModelInfo
from edgepeft.models.tasks import CLASSIFICATION, GENERATION, head_of
from edgepeft.targets import ProvenModel
from edgepeft_exporters.proven import proven

MODEL_TYPES = {
    "bert": "BERT (MiniLM too)",
    "distilbert": "DistilBERT",
    "roberta": "RoBERTa",
    "xlm-roberta": "XLM-RoBERTa",
    "camembert": "CamemBERT",
    "electra": "ELECTRA",
    "albert": "ALBERT",
    "mpnet": "MPNet",
    "deberta": "DeBERTa",
    "deberta-v2": "DeBERTa v2 and v3",
    "modernbert": "ModernBERT",
    "nomic_bert": "Nomic BERT",
    "gte": "GTE",
}
"""Kinds of model whose exported graph the tests hold against the original."""


DECODERS = {"llama": "Llama", "qwen2": "Qwen 2", "qwen3": "Qwen 3"}
"""The same of decoders, which read a text by its last token."""
_ROTARY = (None, "default", "linear", "llama3")
"""Kinds of rotary positions that don't depend on the length of a text."""


@dataclass(frozen=True)
class EncoderExporter:
    """Says which models this exporter takes; the work is in ``stage``."""

    name: str = "encoder"
    stage: str = "edgepeft_exporters.encoder.stage:run"

    def proven(self) -> Sequence[ProvenModel]:
        """The families that it takes, with what the tests saw of each."""
        return proven(self.name)

    def refuses(self, model: ModelInfo) -> str | None:
        """Why this model can't be exported, in one line, or None if it can."""
        config = model.config
        kind = str(config.get("model_type", ""))
        if kind in DECODERS:
            return _refuses_decoder(model)
        if head_of(model.architecture) == GENERATION:
            able = ", ".join(DECODERS.values())
            return f"{model.architecture} can't classify or embed texts; decoders that can: {able}"
        if kind not in MODEL_TYPES:
            known = ", ".join(MODEL_TYPES.values())
            return (
                f"{model.architecture} ({kind}) is not supported; supported encoders: {known}; decoders that "
                f"classify and embed texts: {', '.join(DECODERS.values())}"
            )
        if config.get("quantization_config"):
            return "its weights are already quantized; start from the full-precision checkpoint"
        if config.get("is_decoder"):
            return "its is_decoder is set, and an encoder sees all of a text at once"
        if config.get("chunk_size_feed_forward"):
            return "its chunk_size_feed_forward is set, which takes texts of some lengths alone"
        if str(config.get("position_embedding_type", "absolute")) != "absolute":
            return "its position embeddings are relative; only absolute ones are supported"
        return _refuses_rotary(model)


def _refuses_decoder(model: ModelInfo) -> str | None:
    head = head_of(model.architecture)
    if head not in (None, GENERATION, CLASSIFICATION):
        return f"{model.architecture}: of tasks without generation, decoders classify, rank and embed texts alone"
    if (why := _refuses_rotary(model)) is not None:
        return why
    if model.config.get("quantization_config"):
        return "its weights are already quantized; start from the full-precision checkpoint"
    if model.config.get("is_causal") is False:
        return "is_causal: False is not supported: the graph would look back alone"
    return None


def _refuses_rotary(model: ModelInfo) -> str | None:
    """Why the model's rotary positions can't be in a graph that is made at one length."""
    rotary = [model.config.get(name) or {} for name in ("rope_parameters", "rope_scaling")]
    kinds = {one.get("rope_type") or one.get("type") for one in rotary}
    if kinds <= set(_ROTARY):
        return None
    return f"{model.architecture}: its rotary positions depend on the length of the text"


EXPORTER = EncoderExporter()
