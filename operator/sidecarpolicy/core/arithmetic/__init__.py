"""What sidecars cost a workload, counted before anything moves.

From the Pod spec before and after composition alone: how long the gates may hold the application back, whether the
grace period suffices, what the Pod requests (the scheduler's own formula), its QoS class, and what an autoscaler would
make of it. Every finding is a value: a reason for machines, a sentence for people, and the numbers it was made of.
All but one only warn; `BREAKS_AUTOSCALING` leaves the workload alone.

Deliberately not here: what only a running Pod shows (how long an `exec` hook takes, what a container does with
SIGTERM), what a LimitRange or a RuntimeClass adds to Pods at admission, and dynamic resource claims. What is unknown
is listed as unknown, never guessed.
"""

from sidecarpolicy.core.arithmetic.autoscaling import autoscaling_conflict, scales
from sidecarpolicy.core.arithmetic.budgets import (
    Gate,
    StartupBudget,
    TerminationBudget,
    gate_seconds,
    startup_budget,
    termination_budget,
)
from sidecarpolicy.core.arithmetic.finding import Concern, Finding
from sidecarpolicy.core.arithmetic.findings import Change, findings
from sidecarpolicy.core.arithmetic.qos import QosClass, qos_class
from sidecarpolicy.core.arithmetic.quantities import format_quantity, parse_quantity
from sidecarpolicy.core.arithmetic.requests import Cost, Demand, costs, demands, describe

__all__ = [
    "Change",
    "Concern",
    "Cost",
    "Demand",
    "Finding",
    "Gate",
    "QosClass",
    "StartupBudget",
    "TerminationBudget",
    "autoscaling_conflict",
    "costs",
    "demands",
    "describe",
    "findings",
    "format_quantity",
    "gate_seconds",
    "parse_quantity",
    "qos_class",
    "scales",
    "startup_budget",
    "termination_budget",
]
