"""What the operator sees and does, over a narrow port. No HTTP, no Kopf.

    reflector ─► cache ─► observe ─► fleets ─► plan and steps (pure, in core) ─► writer ─► status_writer

- `cache`, `reflector`: what is there, kept up to date; every replica has it.
- `term`: one term of leadership: its loop and its free workers. `alarms`: when to look again. `memory`: all that a term
  remembers.
- `observe`, `skip_verdicts`, `field_conflicts`, `pods`: facts about one workload, from what is cached and remembered.
- `prepare`, `desired_state`, `preflight`: what one workload should carry, and what to warn of.
- `workload_pass`, `policy_pass`, `acceptance`: the writes about one workload, and about one policy and its revisions.
- `retries`: what an error means for the next try; `rights`: who asks for a right that many wait for.
- `write_requests`, `writer`: every write as data, and the one place that carries it out.
- `status_writer`, `events`, `warnings`: what people are told.
"""
