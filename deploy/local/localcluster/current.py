"""The user's own cluster, where SIDECARPOLICY_CLUSTER=current asks for it.

Which one that is gets printed before anything is done to it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

from localcluster import cache
from localcluster.cluster import Cluster
from localcluster.errors import ClusterError
from localcluster.narration import say

VARIABLE = "SIDECARPOLICY_CLUSTER"


def is_wanted() -> bool:
    """Return whether the user asked for the cluster of the current context.

    :raises ClusterError: if SIDECARPOLICY_CLUSTER says something else.
    """
    value = os.environ.get(VARIABLE, "")
    if value not in {"", "current"}:
        raise ClusterError(f'{VARIABLE} is "{value}"; it may be "current" (your own cluster) or not set.')
    return value == "current"


def current() -> Cluster:
    """Return the cluster of the user's kubeconfig and current context, after printing which that is.

    The context is copied into a kubeconfig of its own, so that a later change of context moves nobody.
    Its audit log cannot be read (``audit_log`` is None), its components cannot be stopped.

    :raises ClusterError: if there is no kubectl or no current context.
    """
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise ClusterError(f"{VARIABLE}=current needs kubectl on PATH.")
    config = json.loads(_current_context(kubectl))
    context, cluster = config["current-context"], config["clusters"][0]["cluster"]
    say(f"Using your own cluster: context {context}, server {cluster['server']}")
    folder = cache.clusters().parent / "current"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    kubeconfig = _private(folder / "kubeconfig", json.dumps(config, indent=2))
    authority = None
    if data := cluster.get("certificate-authority-data"):
        authority = _private(folder / "ca.crt", base64.b64decode(data).decode())
    return Cluster(
        context,
        kubeconfig=kubeconfig,
        kubectl_path=Path(kubectl),
        server=cluster["server"],
        ca_file=authority,
        audit_log=None,
    )


def _private(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    return path


def _current_context(kubectl: str) -> str:
    done = subprocess.run(
        [kubectl, "config", "view", "--minify", "--flatten", "--raw", "--output=json"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise ClusterError(
            f"{VARIABLE}=current, but kubectl finds no current context: {done.stderr.strip()}\n"
            "  `kubectl config get-contexts` lists what there is; KUBECONFIG says where to look."
        )
    return done.stdout
