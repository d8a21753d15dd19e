"""What training minimizes: an answer's tokens, plain text's, or a preference between two answers.

Rows arrive tokenized by the project's one prompt function, so the trainer, the verifier and the device agree on
every token; TRL's own tokenization is never used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepeft.data.encoded import Encoded
from edgepeft.data.prompt import Prompter
from edgepeft.data.row_checks import check_objective
from edgepeft.data.rows import Row
from edgepeft.errors import InputError


def encode_rows(rows: Sequence[Row], prompter: Prompter, max_length: int) -> list[Encoded]:
    """Tokenize rows and cut them to ``max_length`` tokens; rows left without a learned token are dropped."""
    encoded = [prompter.row(row) for row in rows]
    cut = [Encoded(row.ids[:max_length], row.mask[:max_length]) for row in encoded]
    kept = [row for row in cut if any(row.mask)]
    if not kept:
        raise InputError(
            f"data.max_length: {max_length} leaves no token of any completion to learn"
        )
    return kept


def encode_texts(rows: Sequence[Row], prompter: Prompter, max_length: int) -> list[Encoded]:
    """Plain text in windows of at most ``max_length`` tokens: nothing of a long text is cut off."""
    check_objective("text", rows)
    windows: list[Encoded] = []
    for row in rows:
        ids = prompter.row(row).ids
        for start in range(0, len(ids), max_length):
            part = ids[start : start + max_length]
            # A single token has nothing before it that could predict it.
            if len(part) > 1:
                windows.append(Encoded(part, [1] * len(part)))
    if not windows:
        raise InputError("data.train: the texts are too short to learn anything from")
    return windows


def encode_pairs(rows: Sequence[Row], prompter: Prompter, max_length: int) -> list[dict[str, Any]]:
    """Preference rows as ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``; those too long are dropped."""
    check_objective("preference", rows)
    pairs = []
    for row in rows:
        assert row.rejected is not None
        prompt, chosen = prompter.split(row)
        _, rejected = prompter.split(row.with_answer(row.rejected))
        if len(prompt) + max(len(chosen), len(rejected)) <= max_length:
            pairs.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    if not pairs:
        raise InputError(f"data.max_length: no preference row fits into {max_length} tokens")
    return pairs


def as_dataset(rows: Sequence[Encoded]) -> Any:
    """A ``datasets.Dataset`` with ``input_ids`` and ``labels`` (-100 where nothing is learned)."""
    from datasets import Dataset

    return Dataset.from_list(
        [
            {
                "input_ids": row.ids,
                "labels": [i if m else -100 for i, m in zip(row.ids, row.mask, strict=True)],
            }
            for row in rows
        ]
    )


def make_trainer(
    objective: str,
    model: Any,
    rows: Sequence[Any],
    held_out: Sequence[Any],
    arguments: Mapping[str, Any],
    beta: float,
    **parts: Any,
) -> Any:
    """TRL's trainer for an objective; ``arguments`` are transformers' training arguments."""
    from datasets import Dataset
    from trl import DPOConfig, SFTConfig

    from edgepeft.compat.trl_tokenized_pairs import TokenizedPairsTrainer
    from edgepeft.training.trainer import CompletionTrainer

    # A dense model of a family that also has mixtures would be asked for a loss of the router that it lacks.
    arguments = {**arguments, "router_aux_loss_coef": 0.0}
    if objective == "preference":
        return TokenizedPairsTrainer(
            model=model,
            args=DPOConfig(**arguments, beta=beta, max_length=None),
            train_dataset=Dataset.from_list(list(rows)),
            eval_dataset=Dataset.from_list(list(held_out)) if held_out else None,
            **parts,
        )
    config = SFTConfig(**arguments, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})
    return CompletionTrainer(
        model=model,
        args=config,
        train_dataset=as_dataset(rows),
        eval_dataset=as_dataset(held_out) if held_out else None,
        **parts,
    )


def token_count(row: Any) -> int:
    """Tokens of an encoded row; of a pair, those of both sequences."""
    if not isinstance(row, Mapping):
        return len(row.ids) + len(getattr(row, "other", None) or ())
    return 2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])
