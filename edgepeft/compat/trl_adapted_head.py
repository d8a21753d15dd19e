"""Lets TRL's trainer take a model whose head is adapted.

Written for trl 1.16. ``SFTTrainer.__init__`` asks the model for ``get_output_embeddings()`` and refuses a head
that is a layer of PEFT's, because its own loss multiplies with the head's bare weight. Ours calls the head, so
the method is hidden on the model meanwhile. A refusal that a trainer with a loss of its own can switch off
would make this unnecessary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def head_hidden(model: Any) -> Iterator[None]:
    """Within, ``model`` says that it has no head."""
    model.get_output_embeddings = lambda: None
    try:
        yield
    finally:
        del model.get_output_embeddings
