"""The operator's rights are what it uses: no request outside of its roles, and no verb in them unused.

It runs last (see conftest), over the audit log of the whole session; what a short run has not used it uses itself.
"""

from __future__ import annotations

from pathlib import Path

import localcluster
from sidecarpolicy import names
from tests.api.rights import QUICK, granted, streamed, tell_an_event_again, use_rights_on_a_policy, used
from tests.audit import Audit
from tests.builders import a_cluster_policy
from tests.fleet import Fleet
from tests.running import Operator

BASE = Path(__file__).parent.parent.parent / "deploy/base"
ROLES = BASE / "access/operator.yaml"
# The right to create Pods, of which a rule leaves it dry runs.
DRY_RUNS = BASE / "access/dry-runs.yaml"
# What it needs for admission alone; other tests use that, where they run in this session.
ADMISSION = BASE / "admission/access.yaml"
# What it asks for where a policy has `restartOn`, and is refused unless that is switched on; other tests use that.
SWITCHED_ON = [BASE / "restart-on" / each / "access.yaml" for each in ("config-maps", "secrets")]


def test_it_uses_every_right_it_has_and_asks_for_no_other(
    fleet: Fleet, cluster: localcluster.Cluster, operator: Operator
) -> None:
    assert cluster.audit_log is not None
    here = {"matchLabels": {"kubernetes.io/metadata.name": fleet.namespace}}
    cluster_policy = f"rights-{fleet.namespace}"
    use_rights_on_a_policy(fleet)
    fleet.apply(a_cluster_policy(cluster_policy, namespaceSelector=here, rollout=QUICK))
    fleet.wait("RolloutComplete", cluster_policy, kind=names.CLUSTER_POLICY)
    tell_an_event_again(fleet)
    cluster.kubectl("delete", "clustersidecarpolicy", cluster_policy, "--timeout=60s")
    operator.restart()
    requests = Audit(cluster.audit_log, 0).requests()
    of_switches = granted(*SWITCHED_ON)
    refused = [each for each in requests if not each.allowed]
    assert [each for each in refused if (each.group, each.resource, each.verb) not in of_switches] == []
    mine = granted(ROLES, DRY_RUNS)
    assert used(requests) - mine - granted(ADMISSION) - of_switches == set()
    # What is watched is listed by a watch too where the server has WatchList; others take the right to list.
    assert mine - used(requests) - streamed(mine) == set()
