"""The fidelity report: JSON for scripts, Markdown for people, a card in the bundle, and the seal on it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepeft.adapters.provenance import ASSUMED
from edgepeft.config.target_sections import Gates
from edgepeft.errors import EdgepeftError
from edgepeft.evaluation.gates import learned_little, missed_gates
from edgepeft.evaluation.witness.words import witness_line
from edgepeft.metrics.names import Column, vocabulary
from edgepeft.runs.digests import hash_file
from edgepeft.runs.folder import MANIFEST, read_manifest
from edgepeft.utils.whole_files import write_json, write_text

FIDELITY = "fidelity.json"
CARD = "README.md"


def seal_adapter(folder: Path, measures: Path | None, gates: Gates) -> dict[str, Any]:
    """Put an adapter's measures and verdict beside it in a hot-swap bundle; its entry for ``build --json``."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise EdgepeftError(f"{folder}: has no readable {MANIFEST}; run the same command again")
    facts = manifest["result"]
    entry = {
        "name": facts["adapter"],
        "path": str(folder),
        **{key: facts[key] for key in ("rank", "trained_on", "served_on", "same_base")},
    }
    if measures is None:
        return {**entry, "gates": None, "fidelity": None}
    measured = _result(measures)
    verdict: str | list[str] = missed_gates(measured, gates) or "passed"
    report = {
        "adapter": entry["name"],
        "gates": verdict,
        "bounds": gates.model_dump(mode="json"),
        "fidelity": measured,
    }
    if not _is_sealed(folder, manifest, report, (FIDELITY,)):
        write_json(folder / FIDELITY, report)
        _list_outputs(folder, manifest, (FIDELITY,))
        fidelity = {key: measured[key] for key in vocabulary(measured).contract}
        write_json(folder / MANIFEST, {**manifest, "fidelity": {"gates": verdict, **fidelity}})
    return {**entry, "gates": verdict, "fidelity": measured}


def seal(
    bundle: Path,
    *,
    measures: Path | None,
    quantized: Path | None,
    gates: Gates,
    adapters: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Put report, card and verdict into a bundle and return its entry for ``build --json``.

    ``measures`` and ``quantized`` are finished stage folders; without measures the bundle stays unverified.
    ``adapters`` are entries of ``seal_adapter``: a hot-swap bundle passes when all of them do.
    """
    manifest = read_manifest(bundle)
    if manifest is None:
        raise EdgepeftError(f"{bundle}: has no readable {MANIFEST}; run the same command again")
    entry = {
        "target": manifest["result"]["target"],
        "path": str(bundle),
        "model_file": str(bundle / manifest["result"]["model_file"]),
        **({"adapters": list(adapters)} if adapters else {}),
    }
    if measures is None:
        return {**entry, "bytes": folder_bytes(bundle), "gates": None, "fidelity": None}
    facts = _result(measures)
    kept = _result(quantized) if quantized else {}
    missed = missed_gates(facts, gates)
    if adapters:
        missed = [
            f"{one['name']}: {gate}"
            for one in adapters
            for gate in (one["gates"] if isinstance(one["gates"], list) else [])
        ]
    verdict: str | list[str] = missed or "passed"
    warnings = _warnings(facts)
    report = {
        "target": entry["target"],
        "base": manifest["result"]["base"],
        "gates": verdict,
        "warnings": warnings,
        "bounds": gates.model_dump(mode="json"),
        "fidelity": {**{key: facts[key] for key in vocabulary(facts).contract}, **facts},
        "weights": {
            "linear": kept.get("linear", manifest["settings"]["target"]["precision"]),
            "head": kept.get("head", manifest["settings"]["target"]["precision"]),
            "embedding": kept.get("embedding", manifest["settings"]["target"]["precision"]),
            "algorithm": kept.get("algorithm"),
            "tied": kept.get("tied"),
            "accuracy_level": manifest["result"].get("accuracy_level"),
            "divergence": kept.get("divergence"),
            "layer_errors": kept.get("layer_errors"),
        },
        "adapters": [_cost(one) for one in adapters],
        "runtimes": manifest["result"]["runtimes"],
    }
    if "virtual_tokens" in manifest["result"]:
        report["virtual_tokens"] = manifest["result"]["virtual_tokens"]["count"]
    _write_if_changed(bundle, manifest, report, verdict)
    size = folder_bytes(bundle)
    return {
        **entry,
        "bytes": size,
        "gates": verdict,
        "warnings": warnings,
        "fidelity": report["fidelity"],
    }


def _warnings(facts: Mapping[str, Any]) -> list[str]:
    """What is no gate and yet must be said of a bundle's measures."""
    little = learned_little(facts)
    if little is None:
        return []
    return [f"the adapter hardly improves on its base on these test rows: {little}"]


def _cost(adapter: Mapping[str, Any]) -> dict[str, Any]:
    """What being served on this base costs an adapter: nothing in it is rounded, so all of it is the base's."""
    facts = adapter["fidelity"] or {}
    keys = ("exact_match", "reference_exact_match", "task_kl", "generic_kl", "top1_agreement")
    return {
        **{key: adapter[key] for key in ("name", "rank", "trained_on", "served_on", "same_base")},
        **{key: facts.get(key) for key in keys},
        "gates": adapter["gates"],
    }


def cost_line(adapter: Mapping[str, Any]) -> str:
    """One line on an entry of ``seal_adapter`` that was measured: what its base costs it."""
    return _adapter_line(_cost(adapter)).removeprefix("- ")


def _list_outputs(folder: Path, manifest: dict[str, Any], names: Sequence[str]) -> None:
    for name in names:
        path = folder / name
        manifest["outputs"][name] = {"sha256": hash_file(path), "bytes": path.stat().st_size}


def _write_if_changed(
    bundle: Path, manifest: dict[str, Any], report: dict[str, Any], verdict: str | list[str]
) -> None:
    """Add report and card to the bundle; its manifest, written last, lists them."""
    if _is_sealed(bundle, manifest, report, (FIDELITY, CARD)):
        return
    write_json(bundle / FIDELITY, report)
    # The card states the folder's size, which the card itself is part of; a rounded figure settles that.
    size = folder_bytes(bundle)
    write_text(bundle / CARD, card(report, size))
    _list_outputs(bundle, manifest, (FIDELITY, CARD))
    facts = report["fidelity"]
    fidelity = {key: facts[key] for key in vocabulary(facts).contract}
    write_json(bundle / MANIFEST, {**manifest, "fidelity": {"gates": verdict, **fidelity}})


def _is_sealed(
    bundle: Path, manifest: Mapping[str, Any], report: Mapping[str, Any], names: Sequence[str]
) -> bool:
    """Whether the folder holds this very report and the manifest vouches for it: a killed seal is begun anew."""
    try:
        written = json.loads((bundle / FIDELITY).read_text(encoding="utf-8"))
        hashes = {name: hash_file(bundle / name) for name in names}
    except (OSError, ValueError):
        return False
    outputs = manifest["outputs"]
    listed = {name: outputs.get(name, {}).get("sha256") for name in hashes}
    return bool(written == report and listed == hashes)


def _result(stage: Path) -> dict[str, Any]:
    result: dict[str, Any] = (read_manifest(stage) or {})["result"]
    return result


def folder_bytes(folder: Path) -> int:
    """Bytes of every file in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def number(value: float | None, digits: int = 4) -> str:
    """A measure for a table: fixed digits, very small ones in scientific notation, a dash for none."""
    if value is None:
        return "–"
    if value != 0 and abs(value) < 10**-digits:
        return f"{value:.1e}"
    return f"{value:.{digits}f}"


def table_rows(bundles: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the fidelity table of a build: base, reference, then each bundle.

    Bundles of a matrix' cells have references of their own, which are left out.
    """
    rows: list[list[str]] = []
    measured = [bundle for bundle in bundles if bundle["fidelity"]]
    words = vocabulary(measured[0]["fidelity"] if measured else {})
    header = ["model", *(c.title for c in words.columns), "MB", words.rate.title, "gates"]
    if measured and "cell" not in measured[0]:
        facts = measured[0]["fidelity"]

        def own(column: Column, who: str, said: str | None) -> str:
            if said is not None:
                return said
            return number(facts[f"{who}_{column.measure}"], column.digits)

        blank = ["–"] * 3
        base = [own(column, "base", column.base) for column in words.columns]
        trained = [own(column, "reference", column.reference) for column in words.columns]
        rows.append(["base, no adapter", *base, *blank])
        rows.append(["reference, unmerged", *trained, *blank])
    for bundle in measured:
        facts = bundle["fidelity"]
        speed = facts.get(words.rate.measure)
        rows.append(
            [
                bundle.get("cell", bundle["target"]),
                *(number(facts.get(c.measure), c.digits) for c in words.columns),
                f"{bundle['bytes'] / 1e6:.0f}",
                "–" if speed is None else f"{speed:.0f}",
                "passed" if bundle["gates"] == "passed" else "MISSED",
            ]
        )
        for adapter in bundle.get("adapters", ()):
            rows.append(_adapter_row(adapter))
    return header, rows


def witness_lines(bundles: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the second witness says of each measured bundle, a line each."""
    return [
        witness_line(str(bundle.get("cell", bundle["target"])), bundle["fidelity"]["witness"])
        for bundle in bundles
        if bundle["fidelity"] and bundle["fidelity"].get("witness")
    ]


def _adapter_row(adapter: Mapping[str, Any]) -> list[str]:
    facts = adapter.get("fidelity") or adapter
    wanted = facts.get("reference_exact_match")
    return [
        f"  + {adapter['name']}",
        number(facts.get("exact_match"), 3) + (f" of {wanted:.3f}" if wanted is not None else ""),
        number(facts.get("task_kl")),
        number(facts.get("generic_kl")),
        number(facts.get("top1_agreement"), 3),
        number(facts.get("recovery"), 3),
        *("–", "–"),
        {"passed": "passed", None: "–"}.get(
            adapter["gates"] if not isinstance(adapter["gates"], list) else "", "MISSED"
        ),
    ]


def card(report: Mapping[str, Any], size: int) -> str:
    """The bundle's card in Markdown."""
    facts, weights = report["fidelity"], report["weights"]
    gates = report["gates"]
    verdict = (
        "All fidelity gates passed."
        if gates == "passed"
        else "**Fidelity gates missed:** " + "; ".join(gates)
    )
    header, rows = table_rows(
        [{"target": report["target"], "bytes": size, "gates": gates, "fidelity": facts}]
    )
    lines = [
        f"# {report['base']} for {report['target']}",
        "",
        f"{verdict} Measured against the unmerged adapter on the base it was trained on.",
        "",
        *(f"**Note:** {warning}\n" for warning in report.get("warnings", ())),
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        *(_about_answers(facts) if "exact_match" in facts else _about_outputs(facts)),
        *(f"- {line[0].upper()}{line[1:]}" for line in witness_lines([report])),
        f"- Linear layers: {weights['linear']}; head: {weights['head']}; embedding: {weights['embedding']}"
        + ("; head and embedding stored once" if weights["tied"] else ""),
        *map(_adapter_line, report.get("adapters", ())),
        f"- Built for {facts['provider']}; {executed(facts)}",
        *_virtual(report.get("virtual_tokens")),
        "",
        'Run it with `edgepeft run FOLDER "'
        + ("your prompt" if "exact_match" in facts else "a text")
        + f'"`, or load the folder with {", ".join(report["runtimes"])}'
        + ("." if "exact_match" in facts else f" as {facts['task']}."),
        "",
    ]
    return "\n".join(lines)


def _about_answers(facts: Mapping[str, Any]) -> list[str]:
    """What was measured of a model that generates."""
    return [
        f"- Exact match over {facts['rows']} held-out rows, greedy decoding"
        + _interval(facts["exact_match_interval"]),
        f"- KL(reference || bundle) in nats per token over {facts['task_tokens']} task tokens and "
        f"{facts['generic_tokens']} tokens of generic text; generic perplexity "
        f"{number(facts['generic_perplexity'], 2)} (reference "
        f"{number(facts['reference_generic_perplexity'], 2)})",
    ]


def _about_outputs(facts: Mapping[str, Any]) -> list[str]:
    """What was measured of an encoder."""
    (interval,) = (name for name in facts if name.endswith("_interval"))
    name = interval.removesuffix("_interval").replace("_", " ").capitalize()
    lines = [
        f"- {name} over {facts['targets']} targets in {facts['rows']} held-out rows"
        + _interval(facts[interval])
    ]
    if "task_kl" in facts:
        lines.append("- KL(reference || bundle) of the labels' probabilities, in nats per target")
    else:
        lines.append("- Cosines are between the bundle's vector of a text and the reference's")
    return lines


def _adapter_line(adapter: Mapping[str, Any]) -> str:
    grid = str(adapter["trained_on"]).removeprefix(f"{ASSUMED} ")
    assumed = grid != adapter["trained_on"]
    was = "is assumed to have been" if assumed else "was"
    base = (
        f"served on the base it {was} trained on ({grid})"
        if adapter["same_base"]
        else f"{f'{was} ' if assumed else ''}trained on {grid}, served on {adapter['served_on']}, which costs it"
    )
    wanted = adapter["reference_exact_match"]
    return (
        f"- Adapter {adapter['name']} (rank {adapter['rank']}), {base}: exact match "
        f"{number(adapter['exact_match'], 3)} of {number(wanted, 3)}, KL {number(adapter['task_kl'])} on the "
        f"task and {number(adapter['generic_kl'])} on generic text"
    )


def _virtual(count: int | None) -> list[str]:
    """What whoever loads the folder without edgepeft should know of virtual tokens."""
    if not count:
        return []
    return [
        f"- What was trained are {count} virtual tokens before every prompt. Chat template and tokenizer put "
        "them there; onnxruntime-genai's own tokenizer does in chats only, so begin raw text likewise"
    ]


def executed(facts: Mapping[str, Any]) -> str:
    """On what the graph was really run when it was measured."""
    if "execution" in facts:
        return str(facts["execution"])
    if facts["executed_on"] == facts["provider"]:
        return f"executed on {facts['provider']}"
    return f"graph verified on {facts['executed_on']}, {facts['provider']} not executed"


def _interval(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f", 95 % interval {interval[0]:.3f} to {interval[1]:.3f}"
