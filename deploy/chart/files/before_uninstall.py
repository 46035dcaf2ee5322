"""What a Job runs before `helm uninstall` takes anything away: nobody is to be asked who will be gone in a moment.

Standard library only, in a Pod of the operator's image, as an account that may delete these two objects and nothing else.
"""

import os
import ssl
import sys
import urllib.error
import urllib.request

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
HOST, PORT = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
SERVER = f"https://[{HOST}]:{PORT}" if ":" in HOST else f"https://{HOST}:{PORT}"
NAME = "sidecarpolicy"


def delete(plural: str) -> str:
    """Delete one configuration; that it is gone already is as good."""
    with open(f"{ACCOUNT}/token") as file:
        headers = {"Authorization": f"Bearer {file.read()}"}
    trust = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
    where = f"{SERVER}/apis/admissionregistration.k8s.io/v1/{plural}/{NAME}"
    request = urllib.request.Request(where, headers=headers, method="DELETE")
    try:
        urllib.request.urlopen(request, context=trust, timeout=20).close()
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return f"{plural}/{NAME}: not there"
    return f"{plural}/{NAME}: deleted"


def main() -> int:
    """Delete both, and say so."""
    try:
        for plural in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
            print(delete(plural))
    except OSError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
