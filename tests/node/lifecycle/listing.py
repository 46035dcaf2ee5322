"""The list of all scenarios, for docs/lifecycle.md: `python -m tests.node.lifecycle.listing` writes it anew."""

from __future__ import annotations

from pathlib import Path

from tests.node.lifecycle.table import SCENARIOS

PAGE = Path(__file__).parents[3] / "docs/lifecycle.md"
BEGIN, END = "<!-- scenarios: begin -->", "<!-- scenarios: end -->"
_HERE = "../tests/node/lifecycle"
_OUTAGES, _SERVICES = "test_outages.py", "test_services_and_resources.py"

# Those that are more than a Pod and what is done to it.
WRITTEN_OUT = {
    "37": ("after a new sandbox everything starts again in order", _OUTAGES),
    "38": ("the same, with a sidecar's image changed meanwhile: the new image runs", _OUTAGES),
    "39": ("an image changed while the kubelet is away restarts its sidecar only", _OUTAGES),
    "40": ("a new kubelet restarts nothing, and the Pod stays ready: a sidecar without probes", _OUTAGES),
    "41": ("the same with a startup probe, for containers older than ten seconds", _OUTAGES),
    "42": ("the same with a readiness probe", _OUTAGES),
    "43": ("the same with both", _OUTAGES),
    "43-young": (
        "a younger Pod with probes is ready again when they have succeeded, and nothing was restarted",
        _OUTAGES,
    ),
    "44": ("init containers that the runtime has forgotten are not run again", _OUTAGES),
    "45": ("without the API server a Pod goes on starting", _OUTAGES),
    "46": (
        "a Service's endpoint follows the sidecar's readiness, and is served during the grace period",
        _SERVICES,
    ),
    "47": ("overhead, LimitRange defaults and quota count the sidecar", _SERVICES),
    "48": ("without its restartPolicy a sidecar holds its Pod for ever, unless it is sealed or probed", _SERVICES),
    "49": ("a sidecar that crashes while its Pod ends is not restarted", _SERVICES),
    "50": ("the order decides what the Pod requests, and whom the init container can call", _SERVICES),
}


def listed() -> dict[str, tuple[str, str]]:
    """Every scenario: its number (or its variant's, where the promise differs) to its promise and its file."""
    found: dict[str, tuple[str, str]] = {}
    for each in SCENARIOS:
        number = each.number.partition("-")[0]
        if number in found and found[number][0] != each.promise:
            number = each.number
        found.setdefault(number, (each.promise, "table.py"))
    return found | WRITTEN_OUT


def markdown() -> str:
    """The list, and the targets of the page's references."""
    rows = [f"| [{number}] | {promise} | {_policies(number)} |" for number, (promise, _) in listed().items()]
    targets = [f"[{number}]: {_HERE}/{file}" for number, (_, file) in listed().items()]
    return "\n".join(["", "| | promise | restartPolicy |", "| --- | --- | --- |", *rows, "", *targets, "", ""])


def _policies(number: str) -> str:
    """The Pods' restartPolicy in all variants of a scenario."""
    found = [each.restart for each in SCENARIOS if number in {each.number, each.number.partition("-")[0]}]
    return ", ".join(dict.fromkeys(found)) or "Always"


def with_list(page: str) -> str:
    """The page with its list made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{markdown()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_list(PAGE.read_text()))
