"""What lint finds: codes, each with its title, and findings at places in documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sidecarpolicy.lint.pods import Path

DOCS = "docs/lint.md"

CODES: Mapping[str, str] = {
    "wait-loop": "An entry point waits for a sidecar",
    "poststart-wait": "A postStart hook waits for a sidecar",
    "first-container-hold": "A sidecar is the first container so that it starts first",
    "sidecar-prestop-sleep": "A sidecar sleeps in preStop to outlive the application",
    "sidecar-prestop-loop": "A sidecar waits in preStop for the application's end",
    "quit-call": "A container asks a sidecar to quit",
    "process-kill": "A container kills a sidecar's process",
    "sentinel-file": "Containers tell each other by a file that one has ended",
    "sidecar-self-timeout": "A sidecar ends itself after a time",
    "external-killer": "A tool ends the sidecars of the Pod",
    "init-copy": "An init container is a second copy of a sidecar",
    "init-port-bypass": "Traffic of init containers goes around the proxy",
    "foreign-readiness": "A readiness or startup probe asks another container",
    "foreign-liveness": "A liveness probe asks another container",
    "start-sleep": "An application sleeps before it starts",
    "inflated-grace-period": "A grace period has room for sleeps of sidecars",
    "wait-for-file": "A container waits for a file of another one",
    "default-container": "An annotation makes up for a sidecar that comes first",
    "regular-restart-always": "restartPolicy: Always on a regular container",
    "sidecar-waits-for-application": "A sidecar waits for the application",
    "native-in-hook": "A native sidecar in a hook of Argo CD",
    "native-stripped-by-webhook": "A webhook may strip restartPolicy from a native sidecar",
    "native-prestop-ends": "A preStop hook ends a native sidecar",
    "native-gate-foreign-port": "A native sidecar's startup probe asks a container that starts later",
    "native-short-grace": "A grace period is too short for the stop order",
    "native-qos-burstable": "A native sidecar makes a Guaranteed Pod Burstable",
}
"""Every code, and what it means in a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found, at *path* in its document; *inner*: lines into the text that stands there.

    *sure*: no doubt; otherwise somebody must look. *replacement*: what to do instead.
    """

    code: str
    path: Path
    message: str
    replacement: str
    sure: bool = True
    inner: int = 0

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"{self.code} is no code of lint")


def path_text(path: Path) -> str:
    """Return a path as people write it: `spec.containers[0].command[2]`, `metadata.annotations["a.b/c"]`."""
    parts: list[str] = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif step.replace("_", "").replace("-", "").isalnum():
            parts.append(f".{step}" if parts else step)
        else:
            parts.append(f'["{step}"]')
    return "".join(parts)
