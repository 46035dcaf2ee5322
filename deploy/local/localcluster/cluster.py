"""A Kubernetes to work with: what a test, the demo or a benchmark does with it.

How one comes and goes is in lifecycle.py.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from localcluster import control_plane, node, readiness
from localcluster.control_plane import plan_of
from localcluster.errors import KubectlError, UnsupportedError
from localcluster.supervisor import Supervisor


class Cluster:
    """A Kubernetes to work with: one started here, or the user's own (``localcluster.current``).

    As a context manager it stops at the end what it started; the user's own it leaves alone.
    """

    def __init__(
        self,
        name: str,
        *,
        kubeconfig: Path,
        kubectl_path: Path,
        server: str,
        ca_file: Path | None,
        audit_log: Path | None,
        etcd_data: Path | None = None,
        supervisor: Supervisor | None = None,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.kubeconfig = kubeconfig
        """A kubeconfig with one context, for an administrator."""
        self.kubectl_path = kubectl_path
        self.server = server
        """The API server's URL."""
        self.ca_file = ca_file
        """The authority that the API server's certificate is checked with; None: the system's."""
        self.audit_log = audit_log
        """JSON lines, one per answered request (see ``configs.audit_policy``); None: not ours to read.

        A line is written right after the answer was sent: poll for it.
        """
        self.etcd_data = etcd_data
        """The folder of etcd's data (``back_up`` copies it); None: not ours to read."""
        self._supervisor = supervisor
        self._on_stop = on_stop

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def kubectl(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002 - named as subprocess names it
        check: bool = True,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator and return what it printed.

        :param input: what it reads, for ``-f -``.
        :param check: raise if it exits with anything but 0.
        :param timeout: seconds.
        :raises KubectlError: if it fails (and *check*) or does not end in time.
        """
        command = [str(self.kubectl_path), f"--kubeconfig={self.kubeconfig}", *arguments]
        environment = dict(os.environ)
        if self._supervisor is not None:  # no proxy leads to this machine, and no habits of the user count
            environment = {key: value for key, value in environment.items() if not key.lower().endswith("_proxy")}
            environment |= {"KUBERC": "off", "GOGC": "400"}  # a quarter of its time is the collecting of garbage
        try:
            done = subprocess.run(
                command,
                input=input or "",
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout,
                env=environment,
            )
        except subprocess.TimeoutExpired as error:
            raise KubectlError(f"kubectl {' '.join(arguments)} did not end in {timeout:.0f} s") from error
        if check and done.returncode:
            said = f"{done.stdout}{done.stderr}".rstrip()
            raise KubectlError(f"kubectl {' '.join(arguments)} ended with {done.returncode}:\n{said}")
        return done

    def await_definitions(self, timeout: float = 60) -> None:
        """Return when every CustomResourceDefinition is Established: its kind can be used.

        :raises KubectlError: if one is not in *timeout* seconds.
        """
        deadline = time.monotonic() + timeout
        wait = (
            "wait",
            "--for=condition=Established",
            "customresourcedefinitions",
            "--all",
            f"--timeout={timeout:.0f}s",
        )
        while (done := self.kubectl(*wait, check=False, timeout=timeout + 30)).returncode:
            # kubectl does not wait for a definition that has no conditions yet, as in its first milliseconds.
            if "accessor error" not in done.stderr or time.monotonic() > deadline:
                raise KubectlError(f"not every CustomResourceDefinition is Established:\n{done.stderr}")
            time.sleep(0.1)

    @property
    def has_node(self) -> bool:
        """Whether Pods really run here: on a real node of ours, or on whatever the user's cluster has."""
        return self._supervisor is None or self._supervisor.state.node

    @property
    def components(self) -> dict[str, bool]:
        """Each component that was started here, and whether it still runs."""
        names = self._supervisor.state.components if self._supervisor else ()
        return {name: self._processes.alive(name) for name in names}

    def log(self, component: str) -> Path:
        """Return the log file of *component*, such as ``kube-apiserver``."""
        return self._processes.log(component)

    def pid(self, component: str) -> int:
        """Return the process id of *component*: what it costs is told by /proc."""
        return self._processes.state.components[component].process.pid

    def user_kubeconfig(self, user: str, *groups: str) -> Path:
        """Return a kubeconfig for *user* in *groups*; in the audit log that is another user."""
        file = "user-" + re.sub(r"[^a-zA-Z0-9.-]", "-", "-".join([user, *groups]))
        return control_plane.write_kubeconfig(plan_of(self._processes), file, user, list(groups))

    def load_image(self, archive: Path) -> None:
        """Make the images of a Docker archive (see ``images``) known to the real node.

        :raises UnsupportedError: if there is no real node.
        """
        if not self._processes.state.node:
            raise UnsupportedError(f"{self.name} has no real node that could hold {archive.name}.")
        node.load_image(archive)

    def pause(self, component: str) -> None:
        """Stop *component* in its tracks (SIGSTOP): connections stay open, nothing answers."""
        self._processes.state.components[component].process.signal(signal.SIGSTOP)

    def resume(self, component: str) -> None:
        """Let a paused *component* go on."""
        self._processes.state.components[component].process.signal(signal.SIGCONT)

    def kill(self, component: str) -> None:
        """End *component* as a crash would (SIGKILL); ``restart`` brings it back."""
        self._processes.state.components[component].process.signal(signal.SIGKILL)

    def restart(self, component: str) -> None:
        """End *component* in an orderly way (if it runs) and start it again; return when it serves.

        The API server then serves everything; a kubelet needs another second to find its Pods.

        :raises ComponentError: if it does not come back.
        """
        self._processes.stop(component, grace=5)
        self._processes.start(self._processes.state.components[component].command)
        readiness.await_component(self._processes, component)

    def back_up(self, to: Path) -> None:
        """Copy etcd's data, while etcd stands still, to the folder *to*, which must not be there yet.

        :raises UnsupportedError: if it is not ours to read.
        """
        if self.etcd_data is None:
            raise UnsupportedError(f"{self.name} was not started here: etcd's data is out of reach.")
        self.pause("etcd")
        try:
            shutil.copytree(self.etcd_data, to)
        finally:
            self.resume("etcd")

    def restore(self, etcd_data: Path) -> None:
        """End every component, put *etcd_data* in the place of etcd's data, and start them again.

        As the documentation of Kubernetes has it for a backup. Versions of objects go on from those of the copy.

        :param etcd_data: what ``back_up`` made of this cluster.
        :raises UnsupportedError: if there is a real node: its Pods would go on.
        :raises ComponentError: if one does not come back.
        """
        supervisor = self._processes
        if supervisor.state.node or self.etcd_data is None:
            raise UnsupportedError(f"{self.name} has a real node, whose Pods know nothing of a restored etcd.")
        commands = [each.command for each in supervisor.state.components.values()]
        supervisor.stop(*supervisor.state.components, grace=5)
        supervisor.state.components.clear()
        shutil.rmtree(self.etcd_data)
        shutil.copytree(etcd_data, self.etcd_data)
        for command in commands:
            supervisor.start(command)
            if command.component != "etcd":  # the API server is ready when etcd is
                readiness.await_component(supervisor, command.component)

    def stop(self) -> None:
        """Stop and remove everything that was started for this cluster; twice is as good as once.

        The user's own cluster is left alone.
        """
        self._on_stop()

    @property
    def _processes(self) -> Supervisor:
        if self._supervisor is None:
            raise UnsupportedError(f"{self.name} was not started here: its components are out of reach.")
        return self._supervisor
