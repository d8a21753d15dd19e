"""Memory against depth: merge, quantize and export of models of one width and different depths.

    python benchmarks/memory.py [--layers 8 64] [--width 1024] [--algorithm rtn]

Random Llamas (bfloat16, sharded safetensors) with a random rank-16 adapter are merged, rounded to int4 and
exported. Printed are each stage's peak of anonymous memory (RssAnon, sampled; pages of mapped files don't count),
its peak resident set and its seconds, and the ratio of the deepest model's anonymous peak to the shallowest's,
which should be 1: nothing holds the model, everything holds one tensor (with ``--algorithm gptq`` one layer).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("merge", "quantize-int4", "export-cpu-int4")


def write_model(folder: Path, tokenizer: Path, layers: int, width: int) -> None:
    """A random Llama, written shard by shard, with the tokenizer of another model."""
    import shutil

    import torch
    from accelerate import init_empty_weights
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=width,
        intermediate_size=width * 11 // 4 // 64 * 64,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=max(1, width // 256),
        tie_word_embeddings=False,
    )
    with init_empty_weights():
        skeleton = LlamaForCausalLM(config)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    generator = torch.Generator().manual_seed(0)
    weight_map: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    size = 0
    names = list(skeleton.state_dict())
    for position, name in enumerate(names):
        shape = skeleton.get_parameter(name).shape
        value = torch.empty(shape, dtype=torch.bfloat16)
        if len(shape) == 1:
            value.fill_(1.0)
        else:
            value.normal_(0.0, 0.02, generator=generator)
        shard[name] = value
        size += value.nbytes
        if size > 1e9 or position == len(names) - 1:
            file = f"model-{len(set(weight_map.values())):05d}.safetensors"
            save_file(shard, folder / file)
            weight_map.update(dict.fromkeys(shard, file))
            shard, size = {}, 0
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_adapter(folder: Path, model: Path) -> None:
    """A random LoRA adapter for every linear layer."""
    import torch
    from peft import LoraConfig
    from safetensors.torch import save_file

    from edgepeft.checkpoints.skeleton import build_skeleton, linear_weight_names

    skeleton = build_skeleton(model)
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name in linear_weight_names(skeleton):
        rows, width = skeleton.get_parameter(name).shape
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        tensors[f"{stem}.lora_A.weight"] = torch.randn(16, width, generator=generator) * 0.02
        tensors[f"{stem}.lora_B.weight"] = torch.randn(rows, 16, generator=generator) * 0.002
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    modules = sorted({name.split(".")[-2] for name in linear_weight_names(skeleton)})
    LoraConfig(r=16, lora_alpha=32, target_modules=modules, task_type="CAUSAL_LM").save_pretrained(
        folder
    )


def anonymous_bytes(pid: int) -> int:
    """A process's anonymous resident memory now."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def watched(command: list[str]) -> list[int]:
    """Run a build; the largest anonymous memory of each of its stage processes, in the order they ran."""
    import psutil

    peaks: dict[int, int] = {}
    forked: set[int] = set()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        build = psutil.Process(process.pid)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                for source in build.children():
                    children = source.children()
                    if children:
                        forked.add(source.pid)
                    for child in [source, *children]:
                        peak = max(peaks.get(child.pid, 0), anonymous_bytes(child.pid))
                        peaks[child.pid] = peak
            time.sleep(0.02)
    if process.returncode:
        raise SystemExit(process.returncode)
    # The process that stages are forked from is none itself.
    return [peak for pid, peak in peaks.items() if pid not in forked]


def measured(
    root: Path, tokenizer: Path, layers: int, width: int, algorithm: str
) -> dict[str, Any]:
    """Manifests of the stages of one model by stage, with ``anonymous_bytes`` added."""
    model, adapter, run = root / "model", root / "adapter", root / "run"
    write_model(model, tokenizer, layers, width)
    write_adapter(adapter, model)
    command = [sys.executable, "-m", "edgepeft.cli.app", "export", "--model", str(model)]
    command += ["--adapter", str(adapter), "--out", str(run), "--progress", "none"]
    command += ["--set", f"quantize.algorithm={algorithm}", "--set", "targets=cpu-int4"]
    peaks = watched(command)
    found = [*(run / "stages").glob("*/edgepeft.json"), *(run / "bundles").glob("*/edgepeft.json")]
    manifests = [json.loads(path.read_text(encoding="utf-8")) for path in found]
    by_stage = {manifest["stage"]: manifest for manifest in manifests}
    for name, peak in zip(("base", *STAGES), peaks, strict=True):
        by_stage[name]["anonymous_bytes"] = peak
    return by_stage


def main() -> None:
    """Build every depth, print the table and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="any finished run: its tokenizer is borrowed")
    parser.add_argument("--layers", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--algorithm", default="rtn")
    options = parser.parse_args()
    base = next((options.run / "stages").glob("base-*"))
    peaks: dict[int, dict[str, int]] = {}
    for layers in options.layers:
        with tempfile.TemporaryDirectory() as temporary:
            found = measured(Path(temporary), base, layers, options.width, options.algorithm)
            peaks[layers] = {name: found[name]["anonymous_bytes"] for name in STAGES}
            size = sum(path.stat().st_size for path in Path(temporary, "model").iterdir())
        for name in STAGES:
            seconds, peak = found[name]["seconds"], peaks[layers][name]
            resident = found[name]["peak_memory_bytes"]
            print(
                f"{layers:>4} layers, {size / 1e9:5.2f} GB  {name:<16} anonymous {peak / 1e9:6.3f} GB  "
                f"resident {resident / 1e9:6.3f} GB  {seconds:7.1f} s",
                flush=True,
            )
    first, last = options.layers[0], options.layers[-1]
    for name in STAGES:
        ratio = peaks[last][name] / peaks[first][name]
        print(f"peak of {name}, {last} layers to {first}: {ratio:.3f}")


if __name__ == "__main__":
    main()
