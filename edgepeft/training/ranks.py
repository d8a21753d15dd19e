"""The processes that train together, as each of them sees it: its own number, and what they agree on."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Ranks:
    """One of ``size`` processes; the one whose ``index`` is 0 reports and writes for all."""

    index: int = 0
    size: int = 1

    @classmethod
    def launched(cls) -> Ranks:
        """As the launcher says it in the environment."""
        return cls(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))

    @property
    def first(self) -> bool:
        """Whether this process reports and writes."""
        return self.index == 0

    def any(self, flag: bool) -> bool:
        """Whether any process says so; each has to ask. Without this one would stop while others wait for it."""
        if self.size == 1:
            return flag
        import torch
        import torch.distributed

        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        said = torch.tensor([int(flag)], device=device)
        torch.distributed.all_reduce(said, op=torch.distributed.ReduceOp.MAX)
        return bool(said.item())

    def wait(self) -> None:
        """Return once every process has come here."""
        self.any(False)


ALONE = Ranks()
"""A training in one process."""
