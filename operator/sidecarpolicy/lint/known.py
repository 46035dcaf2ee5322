"""Sidecars as they are known in the field: by image, by name, by port; and tools that end them or strip fields.

Matched on the image's repository without registry, tag and digest. A list of examples, not of permissions: what is not
here is still found by what containers do to each other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSidecar:
    """A sidecar by *image* (the end of its repository), the *ports* on which it listens by default, and the HTTP
    endpoint that says that it is ready, *ready_port* and *ready_path*, where the kubelet reaches one by default."""

    image: str
    ports: tuple[int, ...] = ()
    ready_port: int = 0
    ready_path: str = ""


SIDECARS: tuple[KnownSidecar, ...] = (
    KnownSidecar(
        image="istio/proxyv2",
        ports=(15000, 15001, 15006, 15020, 15021, 15090),
        ready_port=15021,
        ready_path="/healthz/ready",
    ),
    KnownSidecar(image="linkerd/proxy", ports=(4140, 4143, 4190, 4191), ready_port=4191, ready_path="/ready"),
    KnownSidecar(image="envoyproxy/envoy", ports=(9901, 15000, 10000)),
    KnownSidecar(image="cloud-sql-proxy", ports=(3306, 5432, 1433, 9090, 9091, 9801)),
    KnownSidecar(image="cloudsql-docker/gce-proxy", ports=(3306, 5432, 1433, 8090)),
    KnownSidecar(image="alloydb-auth-proxy", ports=(5432, 9090, 9091)),
    KnownSidecar(image="daprio/daprd", ports=(3500, 3501, 50001)),
    KnownSidecar(image="fluent/fluent-bit", ports=(2020, 24224)),
    KnownSidecar(image="fluent/fluentd", ports=(24224, 24220)),
    KnownSidecar(image="beats/filebeat", ports=(5066,)),
    KnownSidecar(image="grafana/promtail", ports=(9080,)),
    KnownSidecar(image="timberio/vector", ports=(8686,)),
    KnownSidecar(image="hashicorp/vault", ports=(8200, 8100)),
    KnownSidecar(image="oauth2-proxy/oauth2-proxy", ports=(4180,)),
    KnownSidecar(image="opentelemetry-collector", ports=(4317, 4318, 13133, 8888)),
    KnownSidecar(image="opentelemetry-collector-contrib", ports=(4317, 4318, 13133, 8888)),
    KnownSidecar(image="jaegertracing/jaeger-agent", ports=(5775, 6831, 6832, 5778, 14271)),
    KnownSidecar(image="prom/statsd-exporter", ports=(9102, 9125)),
    KnownSidecar(image="aws-observability/aws-otel-collector", ports=(4317, 4318, 13133)),
    KnownSidecar(image="xray/aws-xray-daemon", ports=(2000,)),
    KnownSidecar(image="appmesh/aws-appmesh-envoy", ports=(9901, 15000)),
    KnownSidecar(image="datadog/agent", ports=(8125, 8126)),
    KnownSidecar(image="gcr.io/datadoghq/agent", ports=(8125, 8126)),
    KnownSidecar(image="telegraf", ports=(8092, 8125)),
    KnownSidecar(image="brancz/kube-rbac-proxy", ports=(8443,)),
    KnownSidecar(image="nginx/nginx-prometheus-exporter", ports=(9113,)),
    KnownSidecar(image="oliver006/redis_exporter", ports=(9121,)),
    KnownSidecar(image="git-sync/git-sync", ports=(2020,)),
    KnownSidecar(image="kiwigrid/k8s-sidecar"),
    KnownSidecar(image="openpolicyagent/opa", ports=(8181,)),
    KnownSidecar(image="pgbouncer", ports=(5432, 6432)),
    KnownSidecar(image="twemproxy", ports=(22121,)),
    KnownSidecar(image="consul-dataplane", ports=(20000,)),
    KnownSidecar(image="kuma-dp", ports=(9901, 9902)),
)

SIDECAR_NAME = re.compile(
    r"(?:.*-)?(?:sidecar|proxy|envoy|daprd|fluent-?bit|fluentd|filebeat|promtail|vector|log-?shipper|log-?tailer|logger"
    r"|log-?agent|vault-agent|otel-agent|otel-collector|otc-container|jaeger-agent|statsd|datadog-agent|telegraf"
    r"|exporter|metrics-agent|git-sync)(?:-sidecar)?"
)
"""Names that sidecars bear; a hint, never a proof."""

MESH_PORTS: Mapping[int, str] = {
    15000: "Istio", 15020: "Istio", 15021: "Istio", 15090: "Istio",
    4191: "Linkerd",
    3500: "Dapr", 3501: "Dapr",
    9901: "Envoy", 9902: "Kuma",
    13133: "the OpenTelemetry Collector",
}  # fmt: skip
"""Ports of proxies that webhooks inject: a manifest that asks them names no such container."""

QUIT_PORTS = frozenset({15000, 15020, 4191, 9091, 9901, 3500})

KILLER_IMAGES = (
    "kubexit",
    "sidecar-cleaner",
    "sidecar-terminator",
    "k8s-sidecar-terminator",
    "kubernetes-sidecar-killer",
)
KILLER_COMMANDS = frozenset({"kubexit", "scuttle", "graceful-shutdown", "sidecar-killer"})
KILLER_ENV = re.compile(
    r"KRUISE_TERMINATE_SIDECAR_WHEN_JOB_EXIT(?:_WITH_IMAGE)?|KUBEXIT_\w+|ENVOY_ADMIN_API|SCUTTLE_\w+|NEVER_KILL_ISTIO\w*"
    r"|ISTIO_QUIT_API"
)
KILLER_ANNOTATIONS = re.compile(
    r"(?:nais\.io/naiserator-sidecar.*|.*sidecar-terminator.*|lemonade\.com/sidecar-cleaner.*|.*/terminate-sidecars?"
    r"|apps\.kruise\.io/.*terminate-sidecar.*)"
)

HOLD_ANNOTATION = "proxy.istio.io/config"
HOLD_SETTING = "holdApplicationUntilProxyStarts"
LINKERD_AWAIT = "config.linkerd.io/proxy-await"
LINKERD_WAIT_BEFORE_EXIT = "config.alpha.linkerd.io/proxy-wait-before-exit-seconds"
DRAIN_SETTING = "EXIT_ON_ZERO_ACTIVE_CONNECTIONS"
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
SKIP_PORTS = (
    "config.linkerd.io/skip-outbound-ports",
    "traffic.sidecar.istio.io/excludeOutboundPorts",
    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
)

ARGO_HOOK = "argocd.argoproj.io/hook"

STRIPPING_MARKS: Mapping[str, str] = {
    "admission.datadoghq.com/enabled": "Datadog's admission controller (before cluster agent 7.66)",
    "appmesh.k8s.aws/sidecarInjectorWebhook": "the App Mesh controller's webhook",
    "gke-gcsfuse/volumes": "the Cloud Storage FUSE webhook (where it is built on old API types)",
    "eks.amazonaws.com/role-arn": "the EKS Pod identity webhook (before 0.5.3)",
    "vault.security.banzaicloud.io/vault-addr": "the Vault secrets webhook (where it is built on old API types)",
    "kube-image-keeper.enix.io/images-rewritten": "kube-image-keeper's webhook",
}
"""Labels and annotations of a Pod template, and the webhook that they call, of which releases have stripped
`restartPolicy` from init containers."""


def known(image: str) -> KnownSidecar | None:
    """Return the known sidecar of *image*, or None."""
    repository = repository_of(image)
    return next((each for each in SIDECARS if repository == each.image or repository.endswith(f"/{each.image}")), None)


def repository_of(image: str) -> str:
    """Return an image's name without tag and digest."""
    bare = image.partition("@")[0]
    path, slash, last = bare.rpartition("/")
    return path + slash + last.partition(":")[0]
