"""Verdicts on bundles as JUnit XML: a testsuite for each bundle, a testcase for each gate.

Build servers have no schema in common. What is written is what all of them read: the attributes of
https://github.com/testmoapp/junitxml, whose optional parts are left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from xml.etree import ElementTree

from edgepeft.evaluation.advice_lines import advice_lines
from edgepeft.evaluation.gates import Judged
from edgepeft.evaluation.verdicts import Verdict
from edgepeft.utils.quantities import number
from edgepeft.utils.terminal_text import visible

_NO_XML = re.compile("[\ufffe\uffff]")
_COUNTED = {"failure": "failures", "error": "errors", "skipped": "skipped"}


def junit_xml(name: str, verdicts: Sequence[Verdict], seconds: float) -> str:
    """The document for what ``name`` was built from; ``seconds`` is what all of it took."""
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    root = ElementTree.Element("testsuites", {"name": _text(f"edgepeft {name}")})
    counted: Counter[str] = Counter()
    for verdict in verdicts:
        suite = _suite(name, verdict, moment)
        counted.update({key: int(suite.get(key, 0)) for key in ("tests", *_COUNTED.values())})
        root.append(suite)
    _count(root, counted, seconds)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, "unicode")}\n'


def _suite(name: str, verdict: Verdict, moment: str) -> ElementTree.Element:
    called = _text(f"{name}.{verdict.name}")
    suite = ElementTree.Element("testsuite", {"name": called, "timestamp": moment})
    properties = dict(_properties(verdict))
    if properties:
        listed = ElementTree.SubElement(suite, "properties")
        for key, value in properties.items():
            ElementTree.SubElement(listed, "property", {"name": key, "value": _text(value)})
    cases = list(_cases(called, verdict))
    suite.extend(cases)
    kinds = Counter(child.tag for case in cases for child in case)
    counted = Counter({key: kinds[tag] for tag, key in _COUNTED.items()})
    counted["tests"] = len(cases)
    _count(suite, counted, 0.0)
    return suite


def _count(element: ElementTree.Element, counted: Counter[str], seconds: float) -> None:
    for key in ("tests", *_COUNTED.values()):
        element.set(key, str(counted[key]))
    element.set("time", f"{seconds:.3f}")


def _properties(verdict: Verdict) -> Iterator[tuple[str, str]]:
    entry = verdict.entry
    if entry is None:
        return
    yield "path", str(entry["path"])
    yield "bytes", str(entry["bytes"])
    for key, value in (entry["fidelity"] or {}).items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield key, f"{value:.6g}"


def _cases(suite: str, verdict: Verdict) -> Iterator[ElementTree.Element]:
    if verdict.error is not None:
        case = _case(suite, "completes")
        ElementTree.SubElement(case, "error", {"message": _text(verdict.error), "type": "error"})
        yield case
        return
    advice = (verdict.entry or {}).get("advice")
    told = "\n".join(advice_lines(verdict.name, advice)) if advice else ""
    for adapter, judged in verdict.gates.items():
        for one in judged:
            yield _gate(suite, f"{adapter}: {one.name}" if adapter else one.name, one, told)
    if not verdict.gates:
        case = _case(suite, "gates")
        ElementTree.SubElement(case, "skipped", {"message": "never measured"})
        yield case


def _gate(suite: str, name: str, judged: Judged, advice: str) -> ElementTree.Element:
    case = _case(suite, name)
    if judged.state == "skipped":
        ElementTree.SubElement(case, "skipped", {"message": _text(judged.why)})
        return case
    if judged.state == "missed":
        kind = {"message": _text(judged.why), "type": judged.gate}
        failure = ElementTree.SubElement(case, "failure", kind)
        failure.text = _text(advice or judged.why)
    measured = "no number" if judged.value is None else number(judged.value, 6)
    said = ElementTree.SubElement(case, "system-out")
    said.text = f"measured {measured}, bound {judged.bound:g}"
    return case


def _case(suite: str, name: str) -> ElementTree.Element:
    return ElementTree.Element(
        "testcase", {"name": _text(name), "classname": suite, "time": "0.000"}
    )


def _text(value: str) -> str:
    """A text as XML may hold it, which has no control characters."""
    return _NO_XML.sub("?", visible(value))
