"""DPO on pairs that are tokenized already.

Written for trl 1.16. Overrides ``DPOTrainer._prepare_dataset``, which applies a chat template and tokenizes
whatever it is given; our pairs are tokenized by the one prompt function that every stage uses. An option as
SFTTrainer's ``dataset_kwargs={"skip_prepare_dataset": True}`` would make this unnecessary.
"""

from __future__ import annotations

from typing import Any

from trl import DPOTrainer


class TokenizedPairsTrainer(DPOTrainer):  # type: ignore[misc]  # trl ships no types
    """DPOTrainer that takes its rows as they are: ``prompt_ids``, ``chosen_ids``, ``rejected_ids``."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset
