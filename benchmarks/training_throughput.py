"""Training throughput: edgepeft's train stage beside bare PEFT loops on the same model and batches.

    python benchmarks/training_throughput.py [--steps 8] [--rounds 3]

All train the same QLoRA adapter on home-control rows, in processes of their own that take turns: the stage as it
chooses by itself, and a plain loop in float32 and under torch's autocast to bfloat16. Printed are medians of
tokens per second of optimizer steps (evaluation, saving and loading aside) and of the stage's ratio to each loop.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "samples" / "recipes" / "home-control.yaml"
BATCH = 8
_DTYPES = ("float32", "bfloat16")


def bare_loop(base: Path, steps: int, dtype: str) -> float:
    """Tokens per second of a plain loop: transformers model, PEFT adapter, AdamW; products are of ``dtype``."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from edgepeft.config.loader import load_recipe
    from edgepeft.data.formats import read_rows
    from edgepeft.data.prompt import Prompter

    recipe = load_recipe(RECIPE)
    data = recipe.recipe.data
    rows = read_rows(recipe.resolve(str(data.train)), system=data.system)
    prompter = Prompter.from_folder(base)
    encoded = [prompter.row(row) for row in rows[: steps * BATCH]]
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, quantization_config=quantization
    )
    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    model = get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    model.train()
    seconds = []
    for step in range(steps):
        batch = encoded[step * BATCH : (step + 1) * BATCH]
        longest = max(len(row.ids) for row in batch)
        ids = torch.zeros(BATCH, longest, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        labels = torch.full_like(ids, -100)
        for index, row in enumerate(batch):
            size = len(row.ids)
            ids[index, :size] = torch.tensor(row.ids)
            mask[index, :size] = 1
            learned = [i if m else -100 for i, m in zip(row.ids, row.mask, strict=True)]
            labels[index, :size] = torch.tensor(learned)
        started = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
    tokens = statistics.mean(len(row.ids) for row in encoded) * BATCH
    return tokens * steps / sum(seconds)


def our_stage(folder: Path, steps: int) -> float:
    """Tokens per second as the train stage reports them."""
    command = [
        sys.executable,
        "-m",
        "edgepeft.cli.app",
        "train",
        str(RECIPE),
        "--out",
        str(folder),
        "--json",
    ]
    command += ["--set", f"training.max_steps={steps}", "--set", "training.eval_rows=0"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    adapter = Path(json.loads(answer.stdout)["adapter"])
    manifest = json.loads((adapter.parent / "edgepeft.json").read_text(encoding="utf-8"))
    return float(manifest["result"]["tokens_per_second"])


def main() -> None:
    """Let both sides take turns and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", choices=_DTYPES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        print(bare_loop(options.bare, options.steps, options.dtype))
        return
    ours: list[float] = []
    bare: dict[str, list[float]] = {dtype: [] for dtype in _DTYPES}
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(options.rounds):
            run = Path(temporary) / str(number)
            ours.append(our_stage(run, options.steps))
            (base,) = (run / "stages").glob("base-*")
            command = [sys.executable, __file__, "--bare", str(base), "--steps", str(options.steps)]
            for dtype, found in bare.items():
                answer = subprocess.run(
                    [*command, "--dtype", dtype], capture_output=True, text=True, check=True
                )
                found.append(float(answer.stdout.split()[-1]))
            shutil.rmtree(run)
    print(f"{'edgepeft train stage':26} {statistics.median(ours):8.1f} tok/s")
    for dtype, found in bare.items():
        ratio = statistics.median(a / b for a, b in zip(ours, found, strict=True))
        name = f"bare PEFT loop, {dtype}"
        print(f"{name:26} {statistics.median(found):8.1f} tok/s, ratio {ratio:.2f}")
    print(f"medians of {options.rounds} rounds of {options.steps} steps")


if __name__ == "__main__":
    main()
