"""A method: LoRA of rank 2, on attention's queries and values alone."""

from __future__ import annotations

from edgepeft.adapters.method import TrainingMethod

SMALL_LORA = TrainingMethod(
    name="small_lora",
    summary="LoRA of rank 2 on queries and values",
    peft_type="LORA",
    names={"rank": "r", "alpha": "lora_alpha"},
    defaults={"rank": 2, "alpha": 4.0},
    modules=("q_proj", "v_proj"),
)
