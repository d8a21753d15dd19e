"""Graphs built within ``as_library``, in a process of its own: ``python -m tests.compat.built OUT MODEL...``.

The graph builder changes ``sys.path`` and prints when it is imported. What was seen goes to ``OUT/seen.json``,
by the name of each model's folder.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.targets import find_target
from edgepeft_exporters.compat.graph_builder import as_library
from edgepeft_exporters.decoder import graph

REPLACED = (
    *("load_weights", "make_initializer", "save_model", "save_processing"),
    *("make_config_init", "make_attention_qk_rope", "has_lm_head", "make_embedding"),
)


def look(model: Path, out: Path) -> dict[str, Any]:
    """Build one model's graph, and count how often the builder calls what is replaced."""
    calls: Counter[str] = Counter()
    signatures: dict[str, list[str]] = {}
    attributes: dict[str, Any] = {}

    @contextlib.contextmanager
    def counted(skeleton: Any, captured: list[Any]) -> Iterator[None]:
        from builders.base import Model

        own = {name: getattr(Model, name) for name in REPLACED}
        signatures.update({name: list(inspect.signature(own[name]).parameters) for name in own})

        def counting(name: str, function: Any) -> Any:
            def call(self: Any, *args: Any, **kwargs: Any) -> Any:
                calls[name] += 1
                made = function(self, *args, **kwargs)
                if name == "make_embedding":
                    attributes.update(scale=float(self.embed_attrs["scale"]))
                if name == "has_lm_head" and made:
                    calls["heads"] += 1
                attributes.update(no_rope=getattr(self, "no_rope_layers", None))
                return made

            return call

        with as_library(skeleton, captured):
            for name in REPLACED:
                setattr(Model, name, counting(name, getattr(Model, name)))
            yield
        attributes["restored"] = all(getattr(Model, name) is own[name] for name in REPLACED)

    graph.as_library = counted  # type: ignore[attr-defined]
    weights = SafetensorsSource.from_folder(model)
    out.mkdir()
    built = graph.build_graph(model, weights, find_target("cpu-fp32"), out, share_embedding=False)
    return {
        "calls": calls,
        "signatures": signatures,
        **attributes,
        "head_size": built.head_size,
        "names": sorted({name for one in built.deferred.values() for name in one.names()}),
        "weights": sorted(weights.specs),
        "saved": sorted(path.name for path in out.iterdir()),
    }


if __name__ == "__main__":
    root, *models = map(Path, sys.argv[1:])
    seen = {model.name: look(model, root / model.name) for model in models}
    (root / "seen.json").write_text(json.dumps(seen))
