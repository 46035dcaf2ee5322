"""What the reader of each page has, and what is special about some of its commands.

A command that is in no scene and not in NOT_RUN fails the tests, with its page and line.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from tests.docs.blocks import ROOT, Command
from tests.docs.stage import SYSTEM, Deed, Stage
from tests.polling import poll

NOT_RUN: Mapping[str, str] = {
    "make demo": "takes a real node: tests/node/test_demo.py",
    "make test": "runs these tests",
    "make image": "tests/packaging/test_image.py",
    "docker build --file deploy/Dockerfile --tag REGISTRY/sidecarpolicy:0.1.0 .": "needs Docker",
    "helm test sidecarpolicy --namespace sidecarpolicy-system": "takes a real node: tests/node/test_install.py",
    "kustomize build --enable-alpha-plugins --enable-exec .": "tests/packaging/test_kustomize.py",
    "source <(sidecarpolicy completion zsh)": "needs zsh; tests/core/test_cli_verbs.py prints the script",
}
"""Commands that are not run, and why. Their verbs and flags are looked up like those of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is special about a command.

    *before*: what happens before the reader types it. *after*: what must hold afterwards. *until*: what its output says
    when the reader ends it with Ctrl-C. *code*: its exit code. *answers*: what the reader types when it asks. *says*: a
    pattern in what it prints. *shows*: it prints every line that the page shows, and no other.
    """

    before: Deed = lambda _: None
    after: Deed = lambda _: None
    until: str = ""
    code: int = 0
    answers: str = ""
    says: str = ""
    shows: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """How the commands of a page are run, in their order.

    *begin*: what is there before the first one; None: no cluster is needed. *files*: what the reader has written.
    *checkout*: the reader stands in a clone of the repository.
    """

    begin: Deed | None = Stage.install
    files: Mapping[str, str] = field(default_factory=dict)
    checkout: bool = True
    steps: Mapping[str, Step] = field(default_factory=dict)


# What readers have


APP = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  selector:
    matchLabels: {app: cart}
  template:
    metadata:
      labels: {app: cart, tier: web}
    spec:
      containers:
      - name: cart
        image: example.test/cart:1
"""
WAITING = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  selector:
    matchLabels: {app: cart}
  template:
    metadata:
      labels: {app: cart}
    spec:
      containers:
      - name: cart
        image: example.test/cart:1
        args: [sh, -c, "until curl -fs localhost:15000/ready; do sleep 1; done; exec cart"]
      - name: envoy
        image: envoyproxy/envoy:v1.37
        readinessProbe:
          httpGet: {path: /ready, port: 15000}
"""
QUITTING = """\
apiVersion: batch/v1
kind: Job
metadata: {name: report}
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
      - name: report
        image: example.test/report:1
        command:
        - sh
        - -c
        - report; curl -fsS -XPOST localhost:15020/quitquitquit
      - name: istio-proxy
        image: istio/proxyv2:1.27
"""
POLICIES = {"policies/web.yaml": (ROOT / "deploy/examples/web.yaml").read_text(), "apps/cart.yaml": APP}
CHART = {
    "cart/Chart.yaml": "{apiVersion: v2, name: cart, version: 0.1.0}\n",
    "cart/templates/cart.yaml": APP.replace(", namespace: shop", ""),
}
MANIFESTS = {"deploy/cart.yaml": WAITING, "deploy/job.yaml": QUITTING}


def nothing(_: Stage) -> None:
    """A cluster in which nothing is installed."""


def operated(stage: Stage) -> None:
    """Installed, and an operator at work."""
    stage.install()
    stage.operate()


def a_shop(stage: Stage) -> None:
    """An operator at work, and Deployments that carry what the policy web injects."""
    operated(stage)
    stage.shop()


def a_halt(stage: Stage) -> None:
    """As `a_shop`, with a revision that was rolled back; the context's namespace is shop."""
    a_shop(stage)
    stage.fail()
    stage.stand_in("shop")


def a_pod(stage: Stage) -> None:
    """As `a_shop`; the page's Pod is the one of cart that is there."""
    a_shop(stage)
    stage.words["cart-8698f6c55d-qs72q"] = the_pod(stage)


def the_pod(stage: Stage) -> str:
    """The name of cart's newest Pod."""
    pods = stage.fleet.get("pods", labelSelector="app=cart")["items"]
    return str(max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])["metadata"]["name"])


def admitting(stage: Stage) -> None:
    """Everything that `kubectl apply -k deploy/` installs, and the webhook's certificate."""
    stage.cluster.kubectl("apply", "--kustomize", str(ROOT / "deploy"))
    installed_by_now(stage)
    has_certificate(stage)


def admitted_shop(stage: Stage) -> None:
    """As `a_shop`, with everything that `kubectl apply -k deploy/` installs."""
    admitting(stage)
    stage.shop()


# What happens meanwhile


def installed_by_now(stage: Stage) -> None:
    """Simulated Pods renew no Lease and answer no webhook, so an operator runs beside them."""
    stage.cluster.await_definitions()
    stage.operate("--admission-certificates")


def has_a_shop(stage: Stage) -> None:
    stage.shop()


def mended(stage: Stage) -> None:
    """The author goes back to an image that there is room for."""
    stage.edit("v1.36", "RolloutComplete")


def two_revisions(stage: Stage) -> None:
    """The page's revisions are two that are there."""
    found = stage.fleet.kubectl("get", "controllerrevisions", "--output=json").stdout
    revisions = sorted(json.loads(found)["items"], key=lambda each: str(each["metadata"]["creationTimestamp"]))
    names = [str(each["metadata"]["name"]).rpartition("-")[2] for each in revisions]
    stage.words |= {"6f9c11d2ab": names[0], "7d21c0a9e1": names[1]}


def recorded(stage: Stage) -> None:
    """The page's Pod is in the context's namespace."""
    stage.words["NAME"] = the_pod(stage)
    stage.stand_in("shop")


def witnessed(stage: Stage) -> None:
    """A life and what a witness wrote of it, recorded on a real node."""
    folder = ROOT / "tests/pages/recorded"
    shutil.copy(folder / "witnessed.record", stage.folder / "record.txt")
    shutil.copy(folder / "witnessed.yaml", stage.folder / "life.yaml")


def unoperated(stage: Stage) -> None:
    """The operator is gone, and the policies are not."""
    stage.install()
    stage.operate()
    stage.shop()
    stage.end()


def ejected(stage: Stage) -> None:
    """No Deployment carries a sidecar any more."""
    for each in stage.fleet.deployments().values():
        assert "initContainers" not in each["spec"]["template"]["spec"]


def still_there(stage: Stage) -> None:
    """Every Deployment carries its sidecar still."""
    for each in stage.fleet.deployments().values():
        assert each["spec"]["template"]["spec"]["initContainers"]


def has_certificate(stage: Stage) -> None:
    """The operator has filled the Secret again."""
    where = ("secret", "sidecarpolicy-webhook-certificate", f"--namespace={SYSTEM}", "--output=json")
    poll(lambda: json.loads(stage.cluster.kubectl("get", *where).stdout).get("data"), timeout=60)


def an_argocd(stage: Stage) -> None:
    """A namespace argocd with the ConfigMap that Argo CD is installed with."""
    stage.cluster.kubectl("create", "namespace", "argocd")
    stage.cluster.kubectl(
        "create", "configmap", "argocd-cm", "--namespace=argocd", "--from-literal=url=https://cd.test"
    )


def kinds_are_gone(stage: Stage) -> None:
    assert stage.cluster.kubectl("get", "customresourcedefinitions", "--output=name").stdout == ""


def removed(stage: Stage) -> None:
    """The reader goes on in a cluster where nothing is installed: the page offers another way to the same."""
    stage.end()
    stage.cluster.kubectl("delete", "--kustomize", str(ROOT / "deploy"), "--ignore-not-found", "--timeout=90s")


def two_namespaces(stage: Stage) -> None:
    """Those that somebody administers, in a cluster with nothing but what its administrator has applied."""
    for each in ("shop", "bank"):
        stage.cluster.kubectl("create", "namespace", each)


def served_and_gone(stage: Stage) -> None:
    """The operator is told which namespaces it serves; then it goes, with all that was there for it."""
    found = json.loads(stage.cluster.kubectl("get", "deployment", "sidecarpolicy", "-n=shop", "-o=json").stdout)
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["run", "--watch-namespace=shop", "--watch-namespace=bank"]
    stage.cluster.kubectl("delete", "namespace", "shop", "bank")
    stage.cluster.kubectl("delete", "--kustomize", str(ROOT / "deploy/namespaced/cluster"))


def installed_by_helm(stage: Stage) -> None:
    """What is upgraded was installed in the same way."""
    removed(stage)
    assert stage.run(Command(page="docs/install.md", line=0, text=HELM)).code == 0


HELM = (
    "helm install sidecarpolicy deploy/chart --namespace sidecarpolicy-system --create-namespace "
    "--set image.registry=REGISTRY"
)
OF_TWO_NAMESPACES = (
    "helm install sidecarpolicy deploy/chart --namespace shop --set 'watchNamespaces={shop,bank}' "
    "--set image.registry=REGISTRY"
)
TEMPLATE = (
    "helm template cart ./cart -n shop --post-renderer sidecarpolicy --post-renderer-args=-p "
    "--post-renderer-args=policies/ --post-renderer-args=-nshop"
)
WATCHED = {"kubectl get sidecarpolicies --watch": Step(until="RolloutComplete")}
GATES = {
    "sidecarpolicy diff -p policies/ apps/": Step(code=1, says=r"\+ +initContainers:"),
    "sidecarpolicy lint apps/": Step(says="1 workload: nothing found"),
}

SCENES: Mapping[str, Scene] = {
    "README.md": Scene(
        begin=nothing,
        files=POLICIES,
        steps={
            "kubectl apply -k deploy/": Step(before=removed, after=installed_by_now),
            **WATCHED,
            **GATES,
            "sidecarpolicy status web -n shop --watch": Step(before=has_a_shop, says="RolloutComplete"),
            "sidecarpolicy check": Step(says="0 failed|all ok|[0-9]+ ok"),
        },
    ),
    "docs/index.md": Scene(begin=nothing, steps={HELM: Step(after=installed_by_now), **WATCHED}),
    "docs/install.md": Scene(
        begin=nothing,
        steps={
            "kubectl apply -k deploy/": Step(before=removed),
            "make manifests && kubectl apply -f dist/install.yaml": Step(before=removed),
            "kubectl apply -k deploy/namespaced/cluster": Step(before=removed),
            OF_TWO_NAMESPACES: Step(before=two_namespaces, after=served_and_gone),
            "kubectl apply -k crds": Step(before=removed),
            "sidecarpolicy run": Step(until="leading: looking at"),
            "helm upgrade sidecarpolicy deploy/chart --namespace sidecarpolicy-system": Step(
                before=installed_by_helm, after=installed_by_now
            ),
        },
    ),
    "docs/admission.md": Scene(
        begin=admitting,
        steps={
            "kubectl patch secret sidecarpolicy-webhook-certificate -n sidecarpolicy-system --type=json "
            """-p='[{"op": "remove", "path": "/data"}]'""": Step(after=has_certificate)
        },
    ),
    "docs/cli.md": Scene(
        begin=a_halt,
        files=POLICIES | CHART,
        steps={
            "sidecarpolicy status": Step(code=1, says="(?s)VERDICT.*next: sidecarpolicy resume web -n shop"),
            'sidecarpolicy status web -n shop --watch --timeout 30m && echo "it is everywhere"': Step(
                code=1, says="RolledBack"
            ),
            "sidecarpolicy status web -n shop": Step(code=1, says="SidecarPolicy shop/web"),
            TEMPLATE: Step(says=r"(?s)initContainers:.*name: proxy.*restartPolicy: Always"),
            "sidecarpolicy restart web -n shop": Step(before=mended, says="one first"),
            "sidecarpolicy list -A": Step(says="(?s)NAMESPACE +DEPLOYMENT +POLICY +REVISION +SIDECARS.*carry"),
            "sidecarpolicy explain deploy/cart -n shop": Step(says="(?s)Policies.*Starts.*Stops.*Resources"),
            "sidecarpolicy history web -n shop": Step(says="REVISION +AGE +STATE +SIDECARS"),
            "sidecarpolicy history web 6f9c11d2ab 7d21c0a9e1 -n shop": Step(
                before=two_revisions, says=r"(?s)--- web-.*\+\+\+ web-.*-.*image: .*v1.36.*\+.*image: .*v1.37"
            ),
            "sidecarpolicy check": Step(says="√ Kubernetes v.* has native sidecars"),
        },
    ),
    "docs/gitops.md": Scene(
        begin=a_shop,
        files=POLICIES,
        steps={
            "sidecarpolicy validate policies/": Step(says="1 policy valid"),
            **GATES,
            "sidecarpolicy status web -n shop --watch --timeout 30m": Step(says="RolloutComplete"),
            "kubectl get deployments -n shop -o yaml | sidecarpolicy eject | kubectl replace -f -": Step(
                before=Stage.end, after=ejected
            ),
        },
    ),
    "docs/lint.md": Scene(
        begin=None,
        files=MANIFESTS,
        checkout=False,
        steps={"sidecarpolicy lint deploy/ -R": Step(code=1, shows=True)},
    ),
    "docs/migrate.md": Scene(
        begin=None,
        files=MANIFESTS,
        checkout=False,
        steps={
            "sidecarpolicy migrate --diff deploy/cart.yaml": Step(says=r"\+ +restartPolicy: Always"),
            "sidecarpolicy migrate -i deploy/ -R": Step(shows=True),
        },
    ),
    "docs/operations.md": Scene(
        begin=a_shop,
        steps={
            "sidecarpolicy status -A": Step(says="(?s)incident 4711.*web"),
        },
    ),
    "docs/owners.md": Scene(begin=a_shop, steps={}),
    "docs/reference.md": Scene(begin=a_shop),
    "docs/status.md": Scene(
        begin=a_shop,
        steps={
            "kubectl apply --server-side --field-manager=sidecarpolicy-health -f deploy/argocd/argocd-cm.yaml": Step(
                before=an_argocd
            )
        },
    ),
    "docs/timeline.md": Scene(
        begin=a_pod,
        steps={
            "kubectl get pod NAME -o yaml --watch --show-managed-fields >life.yaml": Step(
                before=recorded, until="kind: Pod"
            ),
            "sidecarpolicy timeline --witness record.txt": Step(before=witnessed),
        },
    ),
    "docs/troubleshooting.md": Scene(begin=a_shop, steps={"sidecarpolicy check": Step(says="√")}),
    "docs/uninstall.md": Scene(
        begin=admitted_shop,
        steps={
            "sidecarpolicy release --all": Step(answers="y", after=ejected),
            "kubectl delete -k deploy/base": Step(after=Stage.end),
            "kubectl delete -k crds": Step(after=kinds_are_gone),
            "sidecarpolicy release --all --keep-sidecars --without-operator": Step(
                before=unoperated, answers="y", after=still_there
            ),
            "kubectl get deployments -A -o yaml | sidecarpolicy eject | kubectl replace -f -": Step(
                before=unoperated, after=ejected
            ),
        },
    ),
    "deploy/chart/README.md": Scene(
        begin=nothing,
        steps={
            "helm install sidecarpolicy deploy/chart --namespace sidecarpolicy-system --create-namespace": Step(
                after=installed_by_now
            ),
            "kubectl delete namespace sidecarpolicy-system": Step(before=Stage.end),
        },
    ),
}


def policy_files(text: str) -> dict[str, str]:
    """The policies in a page's YAML *text*, by the file that the page calls them."""
    found = [each for each in yaml.safe_load_all(text) if str(each.get("kind", "")).endswith("SidecarPolicy")]
    return {f"{each['metadata']['name']}.yaml": text for each in found}
