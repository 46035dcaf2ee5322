"""The demo, step by step: each shows something a person could type, and keeps one promise or more."""

from __future__ import annotations

import json
from typing import Any

from deploy.demo import lives
from deploy.demo.columns import Columns
from deploy.demo.promises import Promises
from deploy.demo.screen import Screen
from deploy.demo.stage import HERE, ROOT, SHOP, Stage
from deploy.demo.witness import Unwitnessed
from localcluster.errors import KubectlError

WEB = ("cart", "catalog", "orders")
PODS = {"cart": 1, "catalog": 2, "orders": 1}
IN_SHOP = f"--namespace={SHOP}"
POLICY = "sidecarpolicy/web"
NO_NODE = "no container runs on simulated nodes"
IN_CLUSTER = "Operator and webhook run in the cluster, two replicas each, under restricted"

# Seconds. Nothing here is ever slept for: they say when to stop waiting.
ROLLOUT = 120


Pod = dict[str, Any]


class Story:
    """Tells the steps in their order; raises BrokenPromise at the first promise that does not hold."""

    def __init__(self, stage: Stage, screen: Screen, promises: Promises) -> None:
        self._stage = stage
        self._screen = screen
        self._promises = promises
        self._kubectl = stage.kubectl
        self._templates: dict[str, str] = {}

    def tell(self) -> None:
        """Tell all of it."""
        self.install()
        self.applications()
        self.policy()
        self.lives()
        self.new_image()
        self.deletion()

    def install(self) -> None:
        """Install the kinds, the rights and the operator."""
        if self._stage.in_cluster:
            self._install_in_cluster()
        else:
            self._install_as_process()

    def _install_in_cluster(self) -> None:
        """Apply what a user applies."""
        self._screen.step(
            "Install the operator",
            "The kinds, the rights, and operator and webhook from the image of this checkout, under Pod Security level "
            "restricted. Of the operator's two replicas one leads.",
        )
        with self._promises.keeping(IN_CLUSTER) as evidence:
            self._kubectl("apply", "-k", "deploy")
            self._stage.cluster.await_definitions()
            self._kubectl(
                *("wait", "deployments", "--all", "--namespace=sidecarpolicy-system"),
                *("--for=condition=Available", f"--timeout={ROLLOUT}s"),
            )
            ready = self._kubectl("get", "pods", "--namespace=sidecarpolicy-system").count("1/1")
            evidence.require(ready == 4, f"{ready} of 4 are ready")

    def _install_as_process(self) -> None:
        """Install the kinds and the rights, and start the operator as a process of this machine."""
        screen = self._screen
        screen.step(
            "Install the operator",
            "No Pod can run it here, so it is a process of this machine. It may do what its ClusterRole says and "
            "nothing else: it has a token of its own ServiceAccount.",
        )
        why = "its image cannot be made on this machine" if self._stage.node else NO_NODE
        self._promises.cannot_show(IN_CLUSTER, why)
        self._kubectl("apply", "-f", "crds")
        self._kubectl("apply", "-k", "deploy/base/access")
        self._stage.cluster.await_definitions()
        screen.command(self._stage.start_operator())

    def applications(self) -> None:
        """Create the Deployments, as their teams would."""
        self._screen.step(
            "Three teams deploy their applications",
            "cart has its own init container, catalog two replicas, orders writes its log to a file. Nobody knows of "
            "sidecars yet.",
        )
        self._kubectl("apply", "-f", f"{HERE}/1-applications.yaml")
        self._kubectl(
            "wait", "deployments", "--all", IN_SHOP, "--for=condition=Available", "--timeout=60s", shown=False
        )
        self._kubectl("get", "pods", IN_SHOP)
        if self._stage.node:
            self._kubectl("logs", "deployment/cart", IN_SHOP, "--tail=1")
            self._screen.note("Each application calls localhost:15001 with every line it writes. Nobody is there.")
        self._templates = {name: self._template(name) for name in WEB}

    def policy(self) -> None:
        """Apply the policy and follow it through the Deployments."""
        self._screen.step(
            "The platform team applies one policy",
            "A proxy, a logger that shares a directory with the application, and a monitor. One Deployment goes first; "
            "the others follow when it has done well.",
        )
        with self._promises.keeping("The policy reached every Deployment, and nobody restarted anything") as evidence:
            columns = self._follow("apply", "-f", f"{HERE}/2-sidecars.yaml", "-f", f"{HERE}/3-policy.yaml")
            last = columns.rows[-1]
            evidence.require(last["UPDATED"] == str(len(WEB)), f"the columns say {' '.join(last.cells)}")
            evidence.detail = f"{len(WEB)} Deployments, {sum(PODS.values())} Pods"
        self._kubectl("get", "pods", IN_SHOP, "--selector=tier=web")
        wanted = {
            "cart": "proxy logger migrate monitor",
            "catalog": "proxy logger monitor",
            "orders": "proxy logger monitor",
        }
        with self._promises.keeping("Native sidecars, in the right order around cart's own init container") as evidence:
            for name in WEB:
                order = self._get(f"deployment/{name}", "{.spec.template.spec.initContainers[*].name}")
                evidence.require(order == wanted[name], f"{name} starts {order}, not {wanted[name]}")
                self._screen.text(f"{name + ' starts:':16} {order.replace(' ', ', ')}, then app")
        self._shared_files()

    def _shared_files(self) -> None:
        """Look at what logger and monitor do."""
        promise = "The monitor serves its number from within the Pod"
        if not self._stage.node:
            self._promises.cannot_show(promise, NO_NODE)
            return
        with self._promises.keeping(promise) as evidence:
            said = self._kubectl(
                *("exec", self._pods()[0]["metadata"]["name"], IN_SHOP, "--container=app", "--"),
                *("wget", "-q", "-O-", "http://localhost:9102/metrics"),
            )
            evidence.require(said.strip() == "up 1", f"it says {said!r}")

    def lives(self) -> None:
        """Show from the containers' own clocks who was there first and who left last."""
        screen = self._screen
        screen.step(
            "Who was first, who was last",
            "Delete every Pod of the three Deployments and read what the containers themselves wrote, with their own "
            "times. The proxy takes two seconds to start, on purpose.",
        )
        first, last, log = (
            "The proxy was ready before the application's first line",
            "The proxy answered until after the application's last line",
            "The logger saw the first line of orders' file and the last",
        )
        if not self._stage.node:
            for promise in (first, last, log):
                self._promises.cannot_show(promise, NO_NODE)
                screen.warn(f"{promise}: {NO_NODE}.")
            return
        with self._promises.keeping(log) as evidence:
            self._screen.command(
                f"kubectl logs --follow POD {IN_SHOP} --container=proxy     # of each; app and logger too"
            )
            following = lives.follow(self._stage, [pod["metadata"]["name"] for pod in self._pods()])
            self._kubectl("delete", "pods", IN_SHOP, "--selector=tier=web", "--wait=false")
            logs = lives.until_the_end(following)
            seen = {pod: lives.life(pod, of_pod) for pod, of_pod in logs.items()}
            of_orders = next(life for pod, life in seen.items() if pod.startswith("orders"))
            evidence.detail = f"{len(of_orders.lines)} lines"
        screen.note(f"{of_orders.pod}, by the clocks of its containers:")
        lives.show(of_orders, logs[of_orders.pod], screen)
        with self._promises.keeping(first) as evidence:
            for life in seen.values():
                evidence.require(
                    life.head_start.total_seconds() > 0 and life.unanswered[:1] != life.lines[:1],
                    f"{life.pod}: proxy ready {life.ready}; application's first line {life.first}",
                )
            least = min(life.head_start for life in seen.values()).total_seconds()
            evidence.detail = f"{len(seen)} Pods; {least:.2f} s before it, or more"
        with self._promises.keeping(last) as evidence:
            for life in seen.values():
                evidence.require(
                    life.outlived.total_seconds() > 0 and not life.unanswered,
                    f"{life.pod}: application's last line {life.last}; proxy asked to stop {life.stopping}; "
                    f"without an answer: {[str(line) for line in life.unanswered]}",
                )
            calls = sum(len(life.lines) for life in seen.values())
            least = min(life.outlived for life in seen.values()).total_seconds()
            evidence.detail = f"{len(seen)} Pods; {least:.2f} s after it, or more; {calls} of {calls} calls answered"
        screen.held(f"{first}: {self._promises.held[-2].detail}")
        screen.held(f"{last}: {self._promises.held[-1].detail}")
        self._available_again()
        counted = f"--for=jsonpath={{.status.targets.available}}={len(WEB)}"
        self._kubectl("wait", POLICY, IN_SHOP, counted, "--timeout=30s", shown=False)

    def _available_again(self) -> None:
        for name in WEB:
            self._kubectl("rollout", "status", f"deployment/{name}", IN_SHOP, f"--timeout={ROLLOUT}s", shown=False)

    def new_image(self) -> None:
        """Edit the tag of the proxy's image and follow the rollout."""
        self._screen.step(
            "The platform team updates the proxy",
            "The same policy with another image tag. Again one Deployment first; none loses its availability.",
        )
        edited = (ROOT / HERE / "3-policy.yaml").read_text(encoding="utf-8").replace("caddy:1", "caddy:2")
        with self._promises.keeping(
            "The new image reached every Pod, and every Deployment stayed available"
        ) as evidence:
            columns = self._follow(
                "apply",
                "-f",
                "-",
                typed=f"sed s/caddy:1/caddy:2/ {HERE}/3-policy.yaml | kubectl apply -f -",
                given=edited,
            )
            least = min(int(row["AVAILABLE"]) for row in columns.rows)
            evidence.require(least == len(WEB), f"only {least} of {len(WEB)} were available at one time")
            images = {pod["metadata"]["name"]: _image(pod) for pod in self._pods()}
            self._screen.text("\n".join(f"{pod:28}{image}" for pod, image in images.items()))
            old = [pod for pod, image in images.items() if not image.endswith("caddy:2")]
            evidence.require(not old, f"these Pods have another image: {old}")
            evidence.detail = "AVAILABLE never fell below 3"

    def deletion(self) -> None:
        """Delete the policy and compare the templates with those of the beginning."""
        self._screen.step(
            "The policy is deleted",
            "Every Deployment goes back to what its team wrote: the same bytes, so its first ReplicaSet serves again.",
        )
        with self._promises.keeping(
            "Without the policy every Pod template is, byte for byte, what it was before"
        ) as evidence:
            self._screen.command(f"kubectl delete {POLICY} {IN_SHOP}")
            with self._columns():
                self._kubectl(*("delete", POLICY, IN_SHOP, f"--timeout={ROLLOUT}s"), shown=False, timeout=ROLLOUT + 10)
            for name in WEB:
                now = self._template(name)
                same = now == self._templates[name]
                evidence.require(same, f"{name} has\n{now}\nand had\n{self._templates[name]}")
                record = self._get(f"deployment/{name}", "{.metadata.annotations.sidecars\\.dev/injected}")
                evidence.require(not record, f"{name} still carries the record {record}")
                self._screen.held(f"{name}: {len(now)} bytes, the same as before")
            evidence.detail = ", ".join(f"{name} {len(self._templates[name])} bytes" for name in WEB)
        with self._promises.keeping("The applications run again as they did at first"):
            self._available_again()
            self._kubectl("get", "replicasets", IN_SHOP, "--selector=tier=web")

    def _follow(self, *arguments: str, typed: str = "", given: str = "") -> Columns:
        """Run a kubectl command that changes the policy; show the columns until it is rolled out; return them."""
        self._screen.command(typed or f"kubectl {' '.join(arguments)}")
        absolute = [str(ROOT / each) if each.startswith("deploy/") else each for each in arguments]
        with self._columns() as columns:
            self._stage.cluster.kubectl(*absolute, input=given)
            ready = ("wait", POLICY, IN_SHOP, "--for=condition=Ready", f"--timeout={ROLLOUT}s")
            try:
                self._kubectl(*ready, shown=False, timeout=ROLLOUT + 10)
            except KubectlError as error:
                pods = self._kubectl("get", "pods", IN_SHOP, shown=False)
                raise Unwitnessed(f"{error}\n{self._message()}\n{pods}") from error
            columns.settle(lambda row: row["READY"] == "True")
        message = self._message()
        self._screen.note(message)
        return columns

    def _message(self) -> str:
        """Return what the policy says about itself."""
        return self._get(POLICY, "{.status.conditions[?(@.type=='Ready')].message}")

    def _columns(self) -> Columns:
        self._screen.command(f"kubectl get sidecarpolicies {IN_SHOP} --watch")
        return Columns(self._stage.kubectl_process("get", "sidecarpolicies", IN_SHOP, "--watch"), self._screen)

    def _get(self, what: str, path: str, *options: str) -> str:
        return self._kubectl("get", what, IN_SHOP, f"--output=jsonpath={path}", *options, shown=False)

    def _pods(self) -> list[Pod]:
        """Return the Pods of the three Deployments but for those that are on their way out."""
        found = json.loads(self._kubectl("get", "pods", IN_SHOP, "--selector=tier=web", "--output=json", shown=False))
        return [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]

    def _template(self, name: str) -> str:
        """Return the Pod template of a Deployment, as the API server has it."""
        return self._get(f"deployment/{name}", "{.spec.template}")


def _image(pod: Pod) -> str:
    image: str = next(each["image"] for each in pod["spec"]["initContainers"] if each["name"] == "proxy")
    return image
