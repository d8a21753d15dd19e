"""Encoders (classifiers and embedding models), through torch's exporter over a skeleton without weights."""

from __future__ import annotations

from dataclasses import dataclass

from edgepeft.models import ModelInfo
from edgepeft.tasks import GENERATION, head_of

MODEL_TYPES = {
    "bert": "BERT (MiniLM too)",
    "roberta": "RoBERTa",
    "modernbert": "ModernBERT",
}
"""Kinds of model whose exported graph the tests hold against the original."""


@dataclass(frozen=True)
class EncoderExporter:
    """Says which models this exporter takes; the work is in ``stage``."""

    name: str = "encoder"
    stage: str = "edgepeft_exporters.encoder.stage:run"

    def refuses(self, model: ModelInfo) -> str | None:
        """Why this model can't be exported, in one line, or None if it can."""
        config = model.config
        kind = str(config.get("model_type", ""))
        if head_of(model.architecture) == GENERATION:
            return f"{model.architecture} is no encoder"
        if kind not in MODEL_TYPES:
            known = ", ".join(MODEL_TYPES.values())
            return f"{model.architecture} ({kind}) is not supported; supported encoders: {known}"
        if config.get("quantization_config"):
            return "its weights are already quantized; start from the full-precision checkpoint"
        if config.get("is_decoder"):
            return "its is_decoder is set, and an encoder sees all of a text at once"
        if str(config.get("position_embedding_type", "absolute")) != "absolute":
            return "its position embeddings are relative; only absolute ones are supported"
        return None


EXPORTER = EncoderExporter()
