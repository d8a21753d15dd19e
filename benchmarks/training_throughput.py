"""Training throughput: edgepeft's train stage beside a bare PEFT loop on the same model and batches.

    python benchmarks/training_throughput.py [--steps 8] [--rounds 3]

Both train the same QLoRA adapter on home-control rows, in processes of their own that take turns. Printed are
medians of tokens per second of optimizer steps (evaluation, saving and loading aside) and of the ratio of ours
to the bare loop's.
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


def bare_loop(base: Path, steps: int) -> float:
    """Tokens per second of a plain loop: transformers model, PEFT adapter, AdamW."""
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
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
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
    options = parser.parse_args()
    if options.bare:
        print(bare_loop(options.bare, options.steps))
        return
    pairs = []
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(options.rounds):
            run = Path(temporary) / str(number)
            ours = our_stage(run, options.steps)
            (base,) = (run / "stages").glob("base-*")
            command = [sys.executable, __file__, "--bare", str(base), "--steps", str(options.steps)]
            answer = subprocess.run(command, capture_output=True, text=True, check=True)
            pairs.append((ours, float(answer.stdout.split()[-1])))
            shutil.rmtree(run)
    print(f"edgepeft train stage   {statistics.median(ours for ours, _ in pairs):8.1f} tok/s")
    print(f"bare PEFT loop         {statistics.median(bare for _, bare in pairs):8.1f} tok/s")
    ratio = statistics.median(ours / bare for ours, bare in pairs)
    print(f"ratio (median of {options.rounds})    {ratio:8.3f}")


if __name__ == "__main__":
    main()
