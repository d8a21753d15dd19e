"""A JUnit file held to the structure that build servers read."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

COUNTED = {"failure": "failures", "error": "errors", "skipped": "skipped"}
_ATTRIBUTES = {
    "testsuites": {"name", "tests", "failures", "errors", "skipped", "time"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
    "testcase": {"name", "classname", "time"},
    "properties": set(),
    "property": {"name", "value"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "skipped": {"message"},
    "system-out": set(),
}
_CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase"},
    "properties": {"property"},
    "testcase": {"failure", "error", "skipped", "system-out"},
}


def read_junit(document: Path | str) -> ElementTree.Element:
    """Parse a document and assert that its structure and its sums are right."""
    text = document.read_text(encoding="utf-8") if isinstance(document, Path) else document
    root = ElementTree.fromstring(text)
    assert root.tag == "testsuites"
    for element in root.iter():
        assert set(element.attrib) == _ATTRIBUTES[element.tag], element.tag
        assert {child.tag for child in element} <= _CHILDREN.get(element.tag, set()), element.tag
    suites = list(root)
    assert len({suite.get("name") for suite in suites}) == len(suites)
    for suite in suites:
        cases = suite.findall("testcase")
        assert {case.get("classname") for case in cases} == {suite.get("name")}
        assert len({case.get("name") for case in cases}) == len(cases) > 0
        assert int(suite.attrib["tests"]) == len(cases)
        for tag, key in COUNTED.items():
            found = [case for case in cases if case.find(tag) is not None]
            assert int(suite.attrib[key]) == len(found), key
    for key in ("tests", *COUNTED.values()):
        assert int(root.attrib[key]) == sum(int(suite.attrib[key]) for suite in suites)
    assert float(root.attrib["time"]) >= 0
    return root


def outcomes(suite: ElementTree.Element) -> dict[str, str]:
    """What became of each case of a suite: passed, or the element that says otherwise."""
    return {
        case.attrib["name"]: next((tag for tag in COUNTED if case.find(tag) is not None), "passed")
        for case in suite.findall("testcase")
    }
