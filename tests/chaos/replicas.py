"""Two replicas of the operator, each a process with a token, a kubeconfig and a proxy of its own.

A token of its own, because the audit log names it: so the API server itself tells which replica wrote what, and when
each of them held the Lease.
"""

from __future__ import annotations

import json
import re
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import localcluster
from sidecarpolicy import names
from tests import kube
from tests.audit import credential_of
from tests.builders import Manifest
from tests.chaos.patience import steadily
from tests.chaos.proxy import Proxy
from tests.polling import poll
from tests.running import Operator

NAMESPACE = "sidecarpolicy-system"
ACCOUNT = "sidecarpolicy"
LEASE_SECONDS = 5
"""Short, so that a leader's death costs little of a run."""
TRACEBACK = re.compile(r"^Traceback \(most recent call last\):$", re.MULTILINE)


class Replica(Operator):
    """One process at a time; a new life has a new identity, as a new Pod has."""

    def __init__(self, name: str, folder: Path, cluster: localcluster.Cluster, proxy: Proxy) -> None:
        self.name, self.proxy, self._cluster = name, proxy, cluster
        self._token = folder / "token"
        self._bound_to = ""
        self.credentials: set[str] = set()
        self.arguments: tuple[str, ...] = ()
        """More of its command line, in every life."""
        self.lives = 0
        self.tracebacks = 0
        where = {"server": proxy.url, "certificate-authority": str(cluster.ca_file)}
        context = {"cluster": "chaos", "user": ACCOUNT, "namespace": NAMESPACE}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "chaos", "cluster": where}],
            "users": [{"name": ACCOUNT, "user": {"tokenFile": str(self._token)}}],
            "contexts": [{"name": "chaos", "context": context}],
            "current-context": "chaos",
        }
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(config))
        super().__init__(kubeconfig, f"--lease-seconds={LEASE_SECONDS}", "--log-level=info")
        self._hand_out(self._new_token())

    @property
    def identity(self) -> str:
        """Its name in the Lease."""
        return f"{self.name}-{self.lives}"

    @property
    def pid(self) -> int:
        """The id of its process; 0 while there is none."""
        return self._process.pid if self._process else 0

    @property
    def ended(self) -> bool:
        """Whether its process has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def spawn(self, *arguments: str) -> None:
        """Begin a new life."""
        self.lives += 1
        super().spawn(f"--identity={self.identity}", *self.arguments, *arguments)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            if self in Operator.running:
                Operator.running.remove(self)
            self._process.kill()
            self._process.wait()
            self._process = None
            self.note_tracebacks()

    def signal(self, number: signal.Signals) -> None:
        """Send its process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def note_tracebacks(self) -> None:
        """Count the tracebacks in the log of this life, which the next one overwrites."""
        self.tracebacks += len(TRACEBACK.findall(self.log))

    def rotate_token(self) -> None:
        """Take its token away, and give it another one."""
        old = self._bound_to
        token = self._new_token()
        self._cluster.kubectl("delete", "secret", old, f"--namespace={NAMESPACE}")
        self._hand_out(token)

    def _new_token(self) -> str:
        """A token that ends with a Secret."""
        self._bound_to = f"chaos-{self.name}-{len(self.credentials)}"
        there = f"--namespace={NAMESPACE}"
        self._cluster.kubectl("create", "secret", "generic", self._bound_to, there)
        bound = ("--bound-object-kind=Secret", f"--bound-object-name={self._bound_to}", "--duration=24h")
        token = self._cluster.kubectl("create", "token", ACCOUNT, there, *bound).stdout.strip()
        self.credentials.add(credential_of(token))
        return token

    def _hand_out(self, token: str) -> None:
        """Replace the file in one step, as the kubelet does."""
        new = self._token.with_suffix(".new")
        new.write_text(token)
        new.rename(self._token)


class Replicas:
    """Both of them."""

    def __init__(self, cluster: localcluster.Cluster, members: tuple[Replica, ...]) -> None:
        self.members = members
        self._api = kube.client(cluster.kubeconfig)

    def start(self) -> Replica:
        """Start those that do not run; return the one that leads."""
        for each in self.members:
            if not each.pid:
                each.spawn()
        return self.await_leader()

    def lease(self) -> Manifest:
        """The record in the Lease; empty if there is none."""
        there = kube.read(
            self._api, f"leases/{names.CONTROLLER}", version="coordination.k8s.io/v1", namespace=NAMESPACE
        )
        record: Manifest = there["spec"]
        return record

    def leader(self) -> Replica | None:
        """Who holds the Lease, if a living one does."""
        holder = self.lease().get("holderIdentity")
        return next((each for each in self.members if each.pid and each.identity == holder), None)

    def await_leader(self, *, other_than: Replica | None = None, timeout: float = 180) -> Replica:
        """Wait until one leads; another one than that, if it is given."""
        look = steadily(self.leader)
        found = poll(look, until=lambda each: each is not None and each is not other_than, timeout=timeout)
        assert found is not None
        return found

    def stop(self) -> list[str]:
        """End both in an orderly way; return what was not in order about that."""
        problems = []
        for each in self.members:
            if not each.pid:
                continue
            if each.ended:
                problems.append(f"{each.name} had ended by itself")
                each.kill()
                continue
            try:
                code = each.stop()
            except Exception as error:  # noqa: BLE001 - whatever hinders it is what is to be told
                problems.append(f"{each.name} did not end after SIGTERM: {error}")
                each.kill()
                continue
            each.note_tracebacks()
            if code:
                problems.append(f"{each.name} ended with {code} after SIGTERM")
        return problems

    @property
    def tracebacks(self) -> int:
        """How many tracebacks were logged in all lives that have ended."""
        return sum(each.tracebacks for each in self.members)


@contextmanager
def two_replicas(cluster: localcluster.Cluster, *, seed: int = 0) -> Iterator[Replicas]:
    """Two replicas that have not been started yet; ended at the end, whatever happened."""
    assert cluster.ca_file is not None
    with ExitStack() as stack:
        members = []
        for number, name in enumerate(("a", "b")):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"replica-{name}-")))
            proxy = stack.enter_context(Proxy(cluster.server, cluster.ca_file, seed=seed + number))
            members.append(Replica(f"{name}{seed}", folder, cluster, proxy))
        try:
            yield Replicas(cluster, tuple(members))
        finally:
            for each in members:
                each.kill()
