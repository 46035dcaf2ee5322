"""What `helm test` runs in a Pod of the operator's image, as the operator's ServiceAccount; standard library only."""

import datetime
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
HOST, PORT = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
SERVER = f"https://[{HOST}]:{PORT}" if ":" in HOST else f"https://{HOST}:{PORT}"
PATIENCE = 60.0


def get(path: str) -> dict:
    """Read *path* from the API server."""
    with open(f"{ACCOUNT}/token") as file:
        headers = {"Authorization": f"Bearer {file.read()}"}
    trust = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
    with urllib.request.urlopen(urllib.request.Request(SERVER + path, headers=headers), context=trust) as answer:
        return json.load(answer)


def served(plural: str, namespace: str = "") -> str:
    """Say that a kind is served, and how many there are, in one namespace or in all."""
    place = f"namespaces/{namespace}/" if namespace else ""
    found = get(f"/apis/sidecars.dev/v1alpha1/{place}{plural}")["items"]
    return f"{place}{plural}: {len(found)}"


def kinds() -> list[str]:
    """Say so of what the operator serves."""
    if namespaces := os.environ.get("WATCH_NAMESPACES", ""):
        return [served("sidecarpolicies", each) for each in namespaces.split(",")]
    return [served("sidecarpolicies"), served("clustersidecarpolicies")]


def leader() -> str:
    """Say who leads, if the Lease is renewed."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{os.environ['POD_NAMESPACE']}/leases/sidecarpolicy"
    spec = get(path)["spec"]
    renewed = datetime.datetime.fromisoformat(spec["renewTime"].replace("Z", "+00:00"))
    age = (datetime.datetime.now(datetime.timezone.utc) - renewed).total_seconds()
    if not spec.get("holderIdentity") or age > spec["leaseDurationSeconds"]:
        raise ValueError(f"nobody leads: {json.dumps(spec)}")
    return f"leader: {spec['holderIdentity']}"


def main() -> int:
    """Try until everything is as it should be, or time is up."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            print(*kinds(), leader(), sep="\n")
        except (urllib.error.URLError, ValueError, KeyError) as problem:
            if time.monotonic() > end:
                print(f"error: {problem}")
                return 1
            time.sleep(2)
        else:
            return 0


sys.exit(main())
