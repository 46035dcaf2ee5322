"""The five ways to run an application with a proxy that are compared."""

from __future__ import annotations

from dataclasses import dataclass

from tests.builders import TIER, Manifest, a_policy
from tests.node.lifecycle.stage import CLAIM, MOUNT, a_deployment_of, a_witness, as_sidecar

PORT = 15000
READY_AFTER = 3
"""Seconds from the proxy's start until it answers."""
DRAIN = 2
"""Seconds that the application needs after SIGTERM, and calls on."""
PRE_STOP = 10
"""Seconds that the hack `preStop: sleep` keeps the proxy."""
EVERY_MS = 50
"""Between two calls of the application."""
JOB_WORK = 3
"""Seconds of work of a Job's main container."""

_URL = f"http://localhost:{PORT}/"
_PROXY = a_witness(
    "proxy",
    run=f"wait {READY_AFTER}s; listen {PORT}; forever",
    readinessProbe={"httpGet": {"port": PORT, "path": "/ready"}, "periodSeconds": 1},
)
_SLEEP = {"preStop": {"sleep": {"seconds": PRE_STOP}}}
_LOOP = f'until wget -q -O /dev/null {_URL}ready; do sleep 0.5; done; exec witness "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way; its *name* is also that of its Deployment."""

    name: str
    title: str
    loop: bool = False
    """The application's start is wrapped: until curl."""
    sleep: bool = False
    """The proxy has a preStop hook that sleeps."""
    native: bool = False
    """The proxy comes from our policy."""

    def deployment(self, namespace: str) -> Manifest:
        """Its Deployment, without Pods as yet."""
        app = _app(f"wait {DRAIN}s; exit 0")
        if self.loop:
            app |= {"command": ["sh", "-c", _LOOP, "sh"]}
        proxy = _PROXY | ({"lifecycle": _SLEEP} if self.sleep else {})
        made = a_deployment_of(self.name, namespace, app, *([] if self.native else [proxy]))
        made["spec"]["template"]["metadata"]["labels"] = {"app": self.name} | (TIER if self.native else {})
        return made


PLAIN = Variant(name="plain", title="two containers")
NATIVE = Variant(name="native", title="native, by our policy", native=True)
VARIANTS = (
    PLAIN,
    Variant(name="loop", title="+ start loop", loop=True),
    Variant(name="sleep", title="+ preStop sleep", sleep=True),
    Variant(name="both", title="+ both", loop=True, sleep=True),
    NATIVE,
)


def _app(term: str, run: str = "forever") -> Manifest:
    app = a_witness("app", run=run, term=term, call=_URL)
    return app | {"args": [*app["args"], "-every", f"{EVERY_MS}ms"]}


def policy(namespace: str) -> Manifest:
    """The policy that brings the proxy into the native variant."""
    container = _PROXY | {"volumeMounts": [MOUNT | {"name": "records"}]}
    records = {"name": "records", "persistentVolumeClaim": {"claimName": CLAIM}}
    return a_policy("web", namespace, sidecars=[as_sidecar(container, role="Proxy")], volumes=[records])


def job(variant: Variant, spec: Manifest) -> Manifest:
    """A Job with the Pod of a variant (*spec*, injected where that applies) whose application ends by itself."""
    app = _app("exit 0", run=f"wait {JOB_WORK}s; exit 0")
    containers = [each | ({"args": app["args"]} if each["name"] == "app" else {}) for each in spec["containers"]]
    pod = spec | {"containers": containers, "restartPolicy": "Never"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"job-{variant.name}"},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }
