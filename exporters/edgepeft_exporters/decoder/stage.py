"""The export stage for decoders: graph, codes, tokenizer and settings become one bundle folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx_ir as ir

from edgepeft.bundle.layout import ANSWER_SCHEMA, runtimes_of
from edgepeft.checkpoints.base import checkpoint_folder, open_base
from edgepeft.checkpoints.base_stage import base_facts
from edgepeft.checkpoints.fingerprint import fingerprint
from edgepeft.checkpoints.rotary import rotary_switch
from edgepeft.checkpoints.skeleton import build_skeleton, linear_weight_names
from edgepeft.data.prompt import Prompter
from edgepeft.export.settings import ExportResult, ExportSettings, PromptFacts, VirtualTokens
from edgepeft.merging.settings import FrozenBase
from edgepeft.merging.stage import open_unmerged, open_weights
from edgepeft.models.layer_kinds import keeps_states
from edgepeft.models.tasks import GENERATION
from edgepeft.quantization.packed_weights import QuantizedWeights
from edgepeft.quantization.settings import QuantizeResult
from edgepeft.stages.job import Job
from edgepeft.utils.memory import return_large_blocks
from edgepeft_exporters.decoder.graph import (
    DecoderGraph,
    build_graph,
    fix_head_size,
    point_genai_config,
)
from edgepeft_exporters.decoder.hot_swap import add_slots, describe_slots
from edgepeft_exporters.decoder.layout import write_side_files
from edgepeft_exporters.decoder.lead import lead_with
from edgepeft_exporters.decoder.lossless import bind_lossless
from edgepeft_exporters.decoder.qdq import bind_dequantized
from edgepeft_exporters.decoder.unmerged import put_in
from edgepeft_exporters.lazy.bind import bind_codes
from edgepeft_exporters.lazy.graph import save_graph
from edgepeft_exporters.lazy.plain_lookup import spread_lookups
from edgepeft_exporters.side_files import leave_out, read_json

_IO_DTYPES = {
    "fp32": ir.DataType.FLOAT,
    "fp16": ir.DataType.FLOAT16,
    "bf16": ir.DataType.BFLOAT16,
}


def _keep_slots(
    job: Job[ExportSettings], frozen: FrozenBase, graph: DecoderGraph, io_dtype: ir.DataType
) -> None:
    """Make room for adapters in the graph, and list it beside the graph."""
    settings, target = job.settings, job.settings.target
    base = open_base(job.inputs["base"])
    names = linear_weight_names(build_skeleton(checkpoint_folder(job.inputs["base"]), base.specs))
    shapes = {name: (base.specs[name].shape[0], base.specs[name].shape[1]) for name in names}
    slots = add_slots(graph, shapes, settings.adapter_modules, io_dtype)
    kept: str = target.precision
    if "quantize" in job.inputs:
        kept = QuantizeResult.read(job.inputs["quantize"]).linear
    made_from = {"name": settings.base_name, "fingerprint": fingerprint(base)}
    exact = target.precision in ("nf4", "fp32")
    rank = settings.adapter_rank
    describe_slots(slots, rank, frozen, made_from, kept, exact=exact).write(job.out)


def run(job: Job[ExportSettings]) -> ExportResult:
    """Stage function. Inputs: ``base``, the weights as ``open_weights``, and ``quantize`` for integer targets.

    A base alone is exported with slots for adapters. Raises InputError, EdgepeftError.
    """
    return_large_blocks()
    settings, target, frozen = job.settings, job.settings.target, job.settings.frozen
    quantized = QuantizedWeights.open(job.inputs["quantize"]) if target.quantized else None
    weights = open_weights(job) if quantized is None else quantized.over(open_weights(job))
    head_is_float = quantized is None or quantized.plan.head not in quantized.plan.weights

    graphs = job.out / "onnx"
    graphs.mkdir()
    folder = checkpoint_folder(job.inputs["base"])
    graph = build_graph(folder, weights, target, job.out, share_embedding=head_is_float)
    counts: dict[str, int] = {}
    io_dtype = _IO_DTYPES[target.io_dtype]
    if frozen is not None:
        _keep_slots(job, frozen, graph, io_dtype)
    if quantized is not None and target.precision == "nf4":
        counts = bind_lossless(graph, quantized, io_dtype)
    elif quantized is not None and target.weight_layout == "qdq":
        counts = bind_dequantized(graph, quantized, io_dtype)
    elif quantized is not None:
        counts = bind_codes(graph, quantized, io_dtype, settings.accuracy_level)
    prompter = Prompter.from_folder(
        job.inputs["base"], job.template(settings.template), settings.control_tokens
    )
    unmerged = open_unmerged(job)
    lead = range(0)
    if unmerged is not None:
        lead = put_in(graph, unmerged, folder, prompter.vocab_size)
    fix_head_size(graph)
    if target.weight_layout == "nbits-gather":
        spread_lookups(graph, counts)
    save_graph(graph, graphs, target.file_stem, job.events.progress)

    model_file = f"onnx/{target.file_stem}.onnx"
    genai = point_genai_config(job.out, model_file, target.session_options)
    write_side_files(job.inputs["base"], job.out, prompter, target)
    virtual = None
    if lead:
        prompter = lead_with(job.out, prompter, lead)
        virtual = VirtualTokens(first=lead.start, count=len(lead))
    config = read_json(folder / "config.json")
    switch, states = rotary_switch(config), keeps_states(config)
    layout = settings.layout
    loading, answering = (
        runtimes_of(layout, GENERATION, target.js_dtype, swaps=asked, switch=switch, states=states)
        for asked in (False, frozen is not None)
    )
    leave_out(job.out, layout, loading)
    options = genai["model"]["decoder"]["session_options"]
    schema = ANSWER_SCHEMA if "answer_schema" in job.inputs else None
    if schema is not None:
        shutil.copyfile(job.inputs["answer_schema"], job.out / schema)
    return ExportResult(
        answer_schema=schema,
        virtual_tokens=virtual,
        rotary_switch=switch,
        keeps_states=states,
        target=target.name,
        model_file=model_file,
        prompt=PromptFacts.model_validate(prompter.describe()),
        provider=target.provider,
        verify_provider=target.verify_provider,
        base=settings.base_name,
        layout=layout,
        runtimes=tuple(answering),
        session_options={key: value for key, value in options.items() if "." in key},
        vocab_size=lead.stop if lead else int(genai["model"]["vocab_size"]),
        context_length=int(genai["model"]["context_length"]),
        accuracy_level=settings.accuracy_level if target.bits else None,
        operators=counts,
        exporter=Path(__file__).parent.name,
        inside=base_facts(job.inputs["base"]).inside,
    )
