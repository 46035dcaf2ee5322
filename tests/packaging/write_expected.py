"""`python -m tests.packaging.write_expected`: write the expected files anew, to be read before they are committed."""

from __future__ import annotations

from tests.packaging.rendering import CHART, snapshot


def main() -> None:
    """Write one file for each set of values."""
    from tests.packaging.test_chart import EXPECTED

    for path in sorted((CHART / "ci").glob("*-values.yaml")):
        name = path.name.removesuffix("-values.yaml")
        (EXPECTED / f"{name}.yaml").write_text(snapshot(name))


if __name__ == "__main__":
    main()
