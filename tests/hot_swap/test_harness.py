"""lm_eval asks a hot-swap bundle with one of its adapters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepeft.errors import InputError
from edgepeft.runtime import Bundle, GraphSession, Runtime
from edgepeft.runtime.adapters import FACTORS
from tests.hot_swap.chain import ADAPTERS

pytest.importorskip("lm_eval")


def test_an_adapter_is_evaluated(filled: Path) -> None:
    from lm_eval.api.instance import Instance

    from edgepeft.harness import BundleLM

    context, following = "What is the colour of snow?", " white"
    asked = [Instance("loglikelihood", {}, (context, following), 0)]
    answer = [Instance("generate_until", {}, (context, {"max_gen_toks": 6}), 0)]
    found = {}
    for name in (None, *ADAPTERS):
        model = BundleLM(filled, adapter=name)
        found[name] = model.loglikelihood(asked)[0][0], model.generate_until(answer)[0]
        factors = filled / "adapters" / name / FACTORS if name else None
        graph = GraphSession(Bundle.open(filled), adapter=factors)
        ids = model.prompter.text(context + following)
        start = len(model.prompter.text(context))
        logits = graph.logits(ids)[start - 1 : -1].astype(np.float64)
        likely = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        wanted = likely[np.arange(len(ids) - start), ids[start:]].sum()
        assert found[name][0] == pytest.approx(wanted, abs=1e-4)
        runtime = Runtime(filled)
        runtime.swap_adapter(name)
        said = runtime.generate_ids(model.prompter.text(context), max_new_tokens=6)
        assert found[name][1] == model.prompter.decode(said)
    assert len(set(found.values())) == len(found)
    with pytest.raises(InputError, match="no such adapter"):
        BundleLM(filled, adapter="nobody")
