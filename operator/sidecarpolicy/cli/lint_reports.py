"""What lint found, as text, JSON, SARIF 2.1.0 and JUnit; docs/lint.md describes the fields."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import PurePath
from urllib.parse import quote
from xml.etree import ElementTree as Xml

from sidecarpolicy import __version__
from sidecarpolicy.cli.lint_input import Found, Linted
from sidecarpolicy.core.tree import Json
from sidecarpolicy.lint.findings import CODES, DOCS, path_text

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def text_of(linted: Sequence[Linted]) -> str:
    """Return a few lines a finding, the first as compilers have it: `file:line: code: message`."""
    return "".join(_text(workload, each) for workload in linted for each in workload.findings)


def json_of(linted: Sequence[Linted]) -> str:
    """Return one JSON object."""
    found = [_json(workload, each) for workload in linted for each in workload.findings]
    return json.dumps({"findings": found}, indent=2, ensure_ascii=False) + "\n"


def sarif_of(linted: Sequence[Linted]) -> str:
    """Return SARIF, as code hosting shows it beside the lines."""
    rules = [
        {
            "id": code,
            "shortDescription": {"text": title},
            "help": {"text": f"{DOCS}#{code}"},
            "defaultConfiguration": {"level": "warning"},
        }
        for code, title in CODES.items()
    ]
    driver = {"name": "sidecarpolicy lint", "semanticVersion": __version__, "rules": rules}
    results = [_sarif(workload, each) for workload in linted for each in workload.findings]
    report = {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


def junit_of(linted: Sequence[Linted]) -> str:
    """Return JUnit XML: a suite a file, a test case a workload, which fails with what was found in it."""
    root = Xml.Element("testsuites", name="sidecarpolicy lint")
    for file, group in groupby(linted, key=lambda each: each.file):
        workloads = list(group)
        failing = [each for each in workloads if each.findings]
        suite = Xml.SubElement(root, "testsuite", name=file, tests=str(len(workloads)), failures=str(len(failing)))
        for workload in workloads:
            case = Xml.SubElement(suite, "testcase", classname=file, name=workload.title)
            if workload.findings:
                codes = ", ".join(dict.fromkeys(each.finding.code for each in workload.findings))
                failure = Xml.SubElement(case, "failure", type="lint", message=codes)
                failure.text = "".join(_text(workload, each) for each in workload.findings)
    Xml.indent(root)
    return Xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _text(workload: Linted, each: Found) -> str:
    finding = each.finding
    doubt = "" if finding.sure else "perhaps: "
    return (
        f"{workload.file}:{each.line}: {finding.code}: {doubt}{workload.title}: {finding.message}\n"
        f"    at {path_text(finding.path)}\n"
        f"    instead: {finding.replacement}\n"
    )


def _json(workload: Linted, each: Found) -> Json:
    finding = each.finding
    return {
        "code": finding.code,
        "file": workload.file,
        "line": each.line,
        "path": path_text(finding.path),
        "object": {"kind": workload.kind, "namespace": workload.namespace, "name": workload.name},
        "sure": finding.sure,
        "message": finding.message,
        "replacement": finding.replacement,
        "docs": f"{DOCS}#{finding.code}",
    }


def _sarif(workload: Linted, each: Found) -> Json:
    finding = each.finding
    return {
        "ruleId": finding.code,
        "ruleIndex": list(CODES).index(finding.code),
        "level": "warning" if finding.sure else "note",
        "message": {"text": f"{workload.title}: {finding.message}. Instead: {finding.replacement}."},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(workload.file)},
                    "region": {"startLine": each.line},
                },
                "logicalLocations": [{"fullyQualifiedName": path_text(finding.path)}],
            }
        ],
    }


def _uri(file: str) -> str:
    return quote(PurePath(file).as_posix())
