"""How long the webhook's certificate is still good, for `check`: told from the Secret that it is served from.

The operator renews it after two thirds of its life, and cert-manager does likewise. So one that has a few days left is
no matter of patience: something keeps it from being renewed.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from sidecarpolicy import names
from sidecarpolicy.admission.certificates import CERTIFICATE, expires
from sidecarpolicy.cli.check import OURS
from sidecarpolicy.cli.findings import Finding, Result
from sidecarpolicy.cli.text import plural
from sidecarpolicy.core.tree import Json, at

DAY = 86400
FEW = 7
CERT_MANAGERS = "cert-manager.io/certificate-name"
PAGE = "docs/admission.md#certificates"


def certificate_finding(section: str, secret: Json, now: float) -> Finding:
    """Return what is to be said of the certificate in *secret*, *now* in seconds since the epoch."""
    place = at(secret, "metadata").get("namespace", "")
    name = f"Secret {place}/{names.WEBHOOK_SECRET}"
    try:
        ends = expires(base64.b64decode(at(secret, "data").get(CERTIFICATE) or ""))
    except ValueError:
        return Finding(
            section=section,
            result=Result.FAILED,
            message=f"the webhook has no certificate: {name} holds none under {CERTIFICATE}",
            hint=_hint(secret, place),
        )
    left = int((ends - datetime.fromtimestamp(now, UTC)).total_seconds() // DAY)
    until = f"{ends:%Y-%m-%d %H:%M} UTC"
    if left < 0:
        return Finding(
            section=section,
            result=Result.FAILED,
            message=f"the webhook's certificate has expired ({until}): the API server does not trust it any more",
            hint=_hint(secret, place),
        )
    if left < FEW:
        return Finding(
            section=section,
            result=Result.WARNING,
            message=f"the webhook's certificate expires in {plural(left, 'day')} ({until}): it is overdue",
            hint=_hint(secret, place),
        )
    message = f"the webhook's certificate is good for {plural(left, 'more day', 'more days')} ({until})"
    return Finding(section=section, result=Result.OK, message=message)


def _hint(secret: Json, place: str) -> str:
    """Who renews it, and where they say why they do not."""
    if certificate := at(secret, "metadata", "annotations").get(CERT_MANAGERS):
        return f"cert-manager renews it: kubectl describe certificate {certificate} -n {place} ({PAGE})"
    return f"the operator that leads renews it: kubectl logs -n {place} -l {OURS} ({PAGE})"
