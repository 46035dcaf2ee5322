"""What sidecars cost a workload, counted before anything moves.

From Pod specs alone: how long the gates may hold the application back, whether the grace period suffices, what a Pod
requests (the scheduler's own formula), its QoS class, a gate that could never open. Each is a finding: a reason for
machines, and a sentence for people with the numbers in it. Findings only warn. What an autoscaler would make of our
sidecars leaves a workload alone, so that is a check (`sidecarpolicy.core.skips`).

Deliberately not here: what only a running Pod shows (how long an `exec` hook takes, what a container does with
SIGTERM), what a LimitRange or a RuntimeClass adds to Pods at admission, and dynamic resource claims. What is unknown
is listed as unknown, never guessed.
"""
