"""Reports for build servers: what they say of verdicts, and that any text in them is kept a text."""

from __future__ import annotations

from typing import Any

from edgepeft.config.target_sections import Gates
from edgepeft.evaluation.gates import judged_gates
from edgepeft.evaluation.job_summary import summary_of
from edgepeft.evaluation.junit import junit_xml
from edgepeft.evaluation.verdicts import Verdict
from tests.evaluation.test_seal import FACTS
from tests.junit import outcomes, read_junit

WITNESS = {
    "compared": "its graph with float weights",
    "difference": 1e-6,
    "engines": {"onnxruntime": {"difference": 0.1, "positions": 4}},
    "reference": {"difference": None, "positions": 4},
}


def verdict(
    name: str, measures: dict[str, Any], gates: Gates | None = None, **entry: Any
) -> Verdict:
    facts = {**FACTS, **measures}
    judged = tuple(judged_gates(facts, gates or Gates()))
    given = {"target": name, "path": f"/run/{name}", "bytes": 98_000_000, "fidelity": facts}
    missed = [one.why for one in judged if one.state == "missed"]
    return Verdict(name, {**given, "gates": missed or "passed", **entry}, gates={"": judged})


def test_a_case_a_gate_with_value_and_bound() -> None:
    root = read_junit(junit_xml("desk", [verdict("cpu-int4", {"task_kl": 0.06})], 12.5))
    (suite,) = root
    assert (root.get("time"), suite.get("name")) == ("12.500", "desk.cpu-int4")
    assert outcomes(suite) == {
        "max_float_difference": "skipped",
        "max_exact_match_drop": "passed",
        "min_exact_match": "skipped",
        "max_task_kl": "failure",
        "max_generic_kl": "skipped",
        "min_reference_gain": "passed",
    }
    (missed,) = suite.findall("testcase[@name='max_task_kl']")
    assert missed.findtext("system-out") == "measured 0.060000, bound 0.05"
    failure = missed.find("failure")
    assert failure is not None
    assert failure.attrib == {"message": "max_task_kl: 0.0600 > 0.05", "type": "max_task_kl"}
    (off,) = suite.findall("testcase[@name='min_exact_match']/skipped")
    assert "turns this gate off" in off.attrib["message"]
    (unmeasured,) = suite.findall("testcase[@name='max_float_difference']/skipped")
    assert unmeasured.attrib["message"] == "not measured"
    figures = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert figures["bytes"] == "98000000"
    assert figures["task_kl"] == "0.06"


def test_the_witness_has_a_case_for_each_that_it_was_held_against() -> None:
    (suite,) = read_junit(junit_xml("desk", [verdict("cpu-int4", {"witness": WITNESS})], 1))
    found = {name: state for name, state in outcomes(suite).items() if "float" in name}
    assert found == {
        "max_float_difference: its graph with float weights": "passed",
        "max_float_difference: onnxruntime with it": "failure",
        "max_float_difference: the reference": "failure",
    }
    (nothing,) = suite.findall("testcase[@name='max_float_difference: the reference']")
    assert (nothing.findtext("system-out") or "").startswith("measured no number")


def test_what_failed_and_what_was_never_measured_have_a_case_too() -> None:
    given = {"target": "cpu-int8", "path": "/run/cpu-int8", "bytes": 1, "fidelity": None}
    root = read_junit(
        junit_xml("desk", [Verdict("acme/cpu-int4", error="disk full"), Verdict("b", given)], 1)
    )
    assert [outcomes(suite) for suite in root] == [{"completes": "error"}, {"gates": "skipped"}]


def test_adapters_of_one_bundle_have_their_gates_each() -> None:
    one, other = verdict("a", {}), verdict("b", {"task_kl": 1.0})
    both = Verdict("swap", one.entry, gates={"first": one.gates[""], "second": other.gates[""]})
    (suite,) = read_junit(junit_xml("desk", [both], 1))
    assert outcomes(suite)["first: max_task_kl"] == "passed"
    assert outcomes(suite)["second: max_task_kl"] == "failure"
    assert both.missed == ["second: max_task_kl: 1.0000 > 0.05"]


def test_no_text_breaks_out_of_a_report() -> None:
    hostile = "a]]></failure>\x1b[31m\ufffe & <b> | `x` \n# y"
    lost = {"adapter": None, "rows": 1, "first": [hostile], "file": hostile}
    advice = {"lost": [lost], "try": []}
    verdicts = [
        verdict("cpu-int4", {"task_kl": 1.0}, advice=advice),
        Verdict(hostile, error=hostile),
    ]
    root = read_junit(junit_xml(hostile, verdicts, 1))
    assert "\x1b" not in "".join(root.itertext())
    (failure,) = root.iter("failure")
    assert "& <b> |" in (failure.text or "")
    text = summary_of(hostile, verdicts, 1)
    assert "\x1b" not in text
    assert "<b>" not in text.replace("\\<b>", "")
    assert not any(line.startswith("# y") for line in text.splitlines())


def test_a_summary_has_a_table_and_what_to_try() -> None:
    lost = {"adapter": None, "rows": 2, "first": ["t line 1", "t line 9"], "file": "/run/lost.json"}
    tried = {"what": "quantize.head: int8", "why": "because", "cost": "a larger bundle"}
    advice = {"lost": [lost], "try": [tried]}
    verdicts = [
        verdict("cpu-int4", {"exact_match": 0.9}, advice=advice),
        verdict("cpu-int8", {}),
        Verdict("cpu-fp32", error="the disk is full"),
    ]
    lines = summary_of("desk", verdicts, 75).splitlines()
    assert lines[0] == "## edgepeft: desk"
    header, rule, *rows = [line for line in lines if line.startswith("|")]
    assert header.startswith("| model | exact match | task KL |")
    assert rule.count("|") == header.count("|") == rows[0].count("|")
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| cpu-int4", "| cpu-int8"]
    assert [row.rstrip(" |").split(" | ")[-1] for row in rows[2:]] == ["MISSED", "passed"]
    assert "**cpu-int4 missed 1 of its gates**" in lines
    assert any("quantize.head: int8" in line for line in lines)
    assert any("t line 1, t line 9" in line for line in lines)
    assert "**cpu-fp32 failed:** the disk is full" in lines
    assert "2 bundles in 1 min 15 s" in lines
