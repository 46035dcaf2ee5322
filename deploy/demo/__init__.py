"""`make demo`: everything that the operator promises, shown on a real Kubernetes on this machine.

Read `story` first: it tells the steps in their order. `stage` starts and stops what the story needs, `columns` follows
`kubectl get sidecarpolicies`, `following`, `witness` and `lives` read the containers' logs, `promises` keeps what held,
`screen` prints. The manifests beside this file are what a person would apply by hand.

The demo runs in a cluster of its own, never in the user's.
"""
