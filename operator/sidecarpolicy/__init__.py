"""Bring native Kubernetes sidecars (KEP-753) to whole fleets of Deployments, and keep them current.

Read in this order: `names` (every string that goes into a cluster), `core` (pure decisions: what is injected,
where, when and in which order), `engine` (what is there, what follows from it, and what is written), `kube` (the way to
the API server), `handlers` (the process; the only place that knows Kopf) and `cli`.
"""

__version__ = "0.1.0"
