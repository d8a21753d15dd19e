"""The card of a bundle, for people: what it is, how it was measured, what its adapters cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepeft.adapters.provenance import ASSUMED
from edgepeft.evaluation.card_metadata import source_lines
from edgepeft.evaluation.table import answer_lines, call_lines, table_rows, witness_lines
from edgepeft.metrics.names import vocabulary
from edgepeft.models.tasks import GENERATION, RANKING
from edgepeft.utils.quantities import number
from edgepeft.utils.terminal_text import shortened

_SYSTEM = 300
"""Characters of a system message that a card shows."""


def adapter_cost(adapter: Mapping[str, Any]) -> dict[str, Any]:
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
    return _adapter_line(adapter_cost(adapter)).removeprefix("- ")


def card(report: Mapping[str, Any], size: int, needs: str = "") -> str:
    """The bundle's card in Markdown; ``size`` in bytes, ``needs`` says what a machine must have to run it."""
    facts, weights = report["fidelity"], report["weights"]
    gates = report["gates"]
    verdict = (
        "All fidelity gates passed."
        if gates == "passed"
        else "**Fidelity gates missed:** " + "; ".join(gates)
    )
    task = facts.get("task", GENERATION)
    generates = task == GENERATION
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
        *(_about_answers(facts) if generates else _about_outputs(facts)),
        *(
            f"- {line[0].upper()}{line[1:]}"
            for line in (*answer_lines([report]), *call_lines([report]))
        ),
        *(f"- {line[0].upper()}{line[1:]}" for line in witness_lines([report])),
        f"- Linear layers: {weights['linear']}; head: {weights['head']}; embedding: {weights['embedding']}"
        + ("; head and embedding stored once" if weights["tied"] else ""),
        *map(_adapter_line, report.get("adapters", ())),
        f"- Built for {facts['provider']}; {executed(facts)}",
        *([f"- Needs {needs}"] if needs else []),
        *_virtual(report.get("virtual_tokens")),
        *source_lines(report),
        *_system(report.get("system")),
        "",
        'Run it with `edgepeft run FOLDER "'
        + ("your prompt" if generates else "a text")
        + ('" --pair "another' if task == RANKING else "")
        + f'"`, or load the folder with {", ".join(report["runtimes"])}'
        + ("." if generates else f" as {facts['task']}."),
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
    counted = [name for name in facts if name.endswith("_interval")]
    words = vocabulary(facts)
    measure = counted[0].removesuffix("_interval") if counted else words.contract[0]
    name = measure.replace("_", " ").capitalize()
    return [
        f"- {name} over {facts['targets']} targets in {facts['rows']} held-out rows"
        + _interval(facts[counted[0]] if counted else None),
        f"- {words.nearness}",
    ]


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


def _system(said: str | None) -> list[str]:
    """What whoever asks the bundle should say before every prompt, as it was measured with it."""
    if not said:
        return []
    quoted = shortened(said, _SYSTEM).replace("`", "'")
    return [
        f"- Measured with the system message `{quoted}`, which is no part of the bundle: give it "
        "(`edgepeft run --system`), or the answers are to other prompts"
    ]


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
