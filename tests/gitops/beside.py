"""The operator and the webhook, beside which owners do what they do: one of each for a whole module."""

from __future__ import annotations

from collections.abc import Iterator
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


@pytest.fixture(scope="module")
def operator_and_webhook(
    request: pytest.FixtureRequest,
    cluster: localcluster.Cluster,
    operator_kubeconfig: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Operator]:
    """One operator for all namespaces, and one webhook for those that want it; any other operator is stopped.

    A module's OPERATOR_ARGUMENTS are added to the operator's command line.
    """
    arguments: tuple[str, ...] = getattr(request.module, "OPERATOR_ARGUMENTS", ())
    grant(cluster)
    stopped = list(Operator.running)
    for each in stopped:
        each.stop()
    port = free_port()
    install(cluster, port, "yes", WITH_ADMISSION)
    kubeconfig = kubeconfig_of("sidecarpolicy-webhook", cluster, tmp_path_factory.mktemp("webhook"))
    try:
        with (
            Operator(operator_kubeconfig, "--admission-certificates", *arguments) as operator,
            Webhook(kubeconfig, port),
        ):
            poll(partial(_is_trusted, cluster), timeout=60)
            yield operator
    finally:
        uninstall(cluster)
        for each in stopped:
            each.start()


def _is_trusted(cluster: localcluster.Cluster) -> bool:
    path = "-ojsonpath={.webhooks[*].clientConfig.caBundle}"
    return all(cluster.kubectl("get", kind, NAME, path).stdout for kind in CONFIGURATIONS)
