"""What the operator sees and does, over a narrow port. No HTTP, no Kopf.

    reflector ─► cache ─► observe ─► fleets ─► plan and steps (pure, in core) ─► apply ─► report

- `cache`, `reflector`: what is there, kept up to date; every replica has it.
- `term`: one term of leadership: its loop, its free workers, and when to look again. `memory`: all that it remembers.
- `observe`, `judging`, `reverts`, `pods`: facts about one workload, from what is cached and remembered.
- `workloads`, `desired_state`, `preflight`: what one workload should carry, and what to warn of.
- `policies`, `acceptance`: what is to be written about one policy and its revisions.
- `writes`, `apply`: every write as data, and the one place that carries it out.
- `report`, `events`, `warnings`: what people are told.
"""
