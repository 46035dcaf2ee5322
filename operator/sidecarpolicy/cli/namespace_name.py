"""What may stand behind a flag that names a namespace.

An empty one is nearly always a variable that nobody has set: taken for "no namespace named" it would act somewhere
else than where its author meant, so it is wrong usage. So is what the API server would refuse as a name.
"""

from __future__ import annotations

import re

import click

# RFC 1123 label, as the API server checks names of namespaces.
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class NamespaceName(click.ParamType[str]):
    """The name of a namespace."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return *value*; fail where no namespace can have that name."""
        if not value:
            self.fail("an empty name is no namespace: leave the flag out for its default", param, ctx)
        if not LABEL.fullmatch(value):
            meant = value.lower()
            hint = f"; did you mean {meant}?" if LABEL.fullmatch(meant) else ""
            self.fail(
                f"{value!r} is no name of a namespace: up to 63 lower-case letters, digits and '-' inside{hint}",
                param,
                ctx,
            )
        return value


NAMESPACE = NamespaceName()
