"""The operator and the webhook, beside which owners do what they do: one of each for a whole module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

import localcluster
from tests.conftest import kubeconfig_of
from tests.polling import poll
from tests.running import Operator
from tests.webhook import CONFIGURATIONS, NAME, Webhook, free_port, grant, install, uninstall

WITH_ADMISSION = "example.test/admission"
"""The label of namespaces whose Deployments the webhook is asked about, with the value `yes`."""


@contextmanager
def beside(cluster: localcluster.Cluster, kubeconfig: Path, folder: Path, *arguments: str) -> Iterator[Operator]:
    """One operator with *kubeconfig* for all namespaces, and one webhook for those that want it.

    *folder*: for the webhook's own kubeconfig. *arguments* are added to the operator's command line.
    """
    grant(cluster)
    port = free_port()
    install(cluster, port, "yes", WITH_ADMISSION)
    webhook = kubeconfig_of("sidecarpolicy-webhook", cluster, folder)
    try:
        with Operator(kubeconfig, "--admission-certificates", *arguments) as operator, Webhook(webhook, port):
            poll(partial(_is_trusted, cluster), timeout=60)
            yield operator
    finally:
        uninstall(cluster)


@pytest.fixture(scope="module")
def operator_and_webhook(
    request: pytest.FixtureRequest,
    cluster: localcluster.Cluster,
    operator_kubeconfig: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Operator]:
    """Both for a whole module, with its OPERATOR_ARGUMENTS; any other operator is stopped."""
    arguments: tuple[str, ...] = getattr(request.module, "OPERATOR_ARGUMENTS", ())
    Operator.stop_all()
    with beside(cluster, operator_kubeconfig, tmp_path_factory.mktemp("webhook"), *arguments) as operator:
        yield operator


def _is_trusted(cluster: localcluster.Cluster) -> bool:
    path = "-ojsonpath={.webhooks[*].clientConfig.caBundle}"
    return all(cluster.kubectl("get", kind, NAME, path).stdout for kind in CONFIGURATIONS)
