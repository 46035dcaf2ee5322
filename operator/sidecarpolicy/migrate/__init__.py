"""From old-school sidecars to native ones: what to change in a manifest, decided over plain values.

A migration has the object as it is to be, what was done to it with the reason, and notes: what a person must decide.
Only what is certain is done; everything else that `sidecarpolicy.lint` finds, and what a move itself brings along, is a
note. In the doubt a trick stays: a loop that waits for a sidecar does no harm beside a native one.

The order of the work (`plan`): who can move (`movers`), how each is ready (`gates`), what scripts lose (`scripts`), and
the grace period. Deliberately not here: text. `sidecarpolicy.cli.migrate` splices the values into the file.
"""

from sidecarpolicy.migrate.model import Done, Migration, Note
from sidecarpolicy.migrate.plan import migrate
from sidecarpolicy.migrate.policy import Lifted, lift, policies

__all__ = ["Done", "Lifted", "Migration", "Note", "lift", "migrate", "policies"]
