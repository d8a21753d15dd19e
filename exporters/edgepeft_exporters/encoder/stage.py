"""The export stage for encoders: graph, codes, tokenizer and settings become one bundle folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx_ir as ir
import torch

from edgepeft.bundle.layout import runtimes_of
from edgepeft.checkpoints.base import checkpoint_folder
from edgepeft.checkpoints.base_stage import EncoderFacts
from edgepeft.export.settings import ExportResult, ExportSettings
from edgepeft.merging.stage import open_weights
from edgepeft.models.dense_files import WEIGHTS
from edgepeft.quantization.packed_weights import QuantizedWeights
from edgepeft.stages.job import Job
from edgepeft_exporters.encoder.graph import build_graph
from edgepeft_exporters.lazy.bind import bind_codes
from edgepeft_exporters.lazy.graph import save_graph
from edgepeft_exporters.lazy.plain_lookup import spread_lookups
from edgepeft_exporters.side_files import leave_out, write_config, write_tokenizer

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
_IR_DTYPES = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16}


def run(job: Job[ExportSettings]) -> ExportResult:
    """Stage function. Inputs: ``base``, the weights as ``open_weights``, and ``quantize`` for integer targets.

    Raises InputError, EdgepeftError.
    """
    settings, target = job.settings, job.settings.target
    facts = EncoderFacts.read(job.inputs["base"])
    folder = checkpoint_folder(job.inputs["base"])
    weights, dtype = open_weights(job), _DTYPES[target.io_dtype]
    graph = build_graph(folder, weights, facts.task, dtype, typed=facts.token_types)
    counts: dict[str, int] = {}
    if target.quantized:
        quantized = QuantizedWeights.open(job.inputs["quantize"])
        counts = bind_codes(graph, quantized, _IR_DTYPES[target.io_dtype], settings.accuracy_level)
    if target.weight_layout == "nbits-gather":
        spread_lookups(graph, counts)
    for layer in facts.pooling.dense if facts.pooling else ():
        (job.out / layer.folder).mkdir()
        place = f"{layer.folder}/{WEIGHTS}"
        shutil.copyfile(job.inputs["base"] / place, job.out / place)
    graphs = job.out / "onnx"
    graphs.mkdir()
    save_graph(graph, graphs, target.file_stem, job.events.progress)
    config = write_config(folder, job.out, target)
    write_tokenizer(folder, job.out, facts.context_length, typed=facts.token_types)
    runtimes = runtimes_of(settings.layout, facts.task, target.js_dtype)
    leave_out(job.out, settings.layout, runtimes)
    return ExportResult(
        target=target.name,
        task=facts.task,
        labels=facts.labels,
        pooling=facts.pooling,
        paired=facts.paired,
        token_types=facts.token_types,
        scoring=facts.scoring,
        model_file=f"onnx/{target.file_stem}.onnx",
        provider=target.provider,
        verify_provider=target.verify_provider,
        layout=settings.layout,
        runtimes=tuple(runtimes),
        session_options=dict(target.session_options),
        base=settings.base_name,
        context_length=facts.context_length,
        vocab_size=int(config["vocab_size"]),
        control_tokens=settings.control_tokens,
        accuracy_level=settings.accuracy_level if target.bits else None,
        operators=counts,
        exporter=Path(__file__).parent.name,
    )
