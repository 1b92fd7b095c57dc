"""The report as JUnit XML, which CI systems show among their tests."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from nifbuild.ablate.gate import GateResult
from nifbuild.ablate.results import Results, failed_name
from nifbuild.errors import shown

# XML 1.0 has no way to write these.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(results: Results, gates: Sequence[GateResult]) -> str:
    """A test case for each gate and variant, and for each cell that failed.

    A gate that is inconclusive or cannot be compared is an error rather than a failure: nothing
    was shown.
    """
    cases = []
    for gate in gates:
        case = _case(f"{results.name}.gates", f"{gate.gate} [{gate.variant}]")
        if gate.verdict != "pass":
            tag = "failure" if gate.verdict == "fail" else "error"
            _add(case, tag, gate.verdict, gate.reason)
        cases.append(case)
    for variant in results.variants:
        for failed in variant.failed:
            case = _case(f"{results.name}.cells", failed_name(variant, failed))
            _add(case, "failure", "failed", failed.reason)
            ElementTree.SubElement(case, "system-out").text = _clean(failed.log_tail)
            cases.append(case)
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": str(sum(case.find("error") is not None for case in cases)),
    }
    suite = ElementTree.Element("testsuite", {"name": _clean(results.name), **counts})
    suite.extend(cases)
    root = ElementTree.Element("testsuites", counts)
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)


def _case(group: str, name: str) -> ElementTree.Element:
    return ElementTree.Element("testcase", classname=_clean(group), name=_clean(name))


def _add(case: ElementTree.Element, tag: str, kind: str, reason: str) -> None:
    found = ElementTree.SubElement(case, tag, {"type": kind, "message": _clean(reason)})
    found.text = _clean(reason)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("?", shown(text, lines=True))
