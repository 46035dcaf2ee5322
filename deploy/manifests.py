"""`make manifests`: what is made from other manifests.

Into the repository, where `make check` sees to it that they are current: the chart's copy of the two kinds, and its
README from the comments of values.yaml. Into dist/, for a release: install.yaml, which is `deploy/` as one file.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[1]
CHART: Final = ROOT / "deploy/chart"
INSTALL: Final = ROOT / "dist/install.yaml"
_MARK: Final = "# -- "


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value of the chart: its path, its default as YAML in one line, and what it is for."""

    path: str
    default: str
    meaning: str


def values(text: str) -> Iterator[Value]:
    """Return the values that a comment `# -- …` explains, in their order; raise ValueError where one lacks it."""
    lines = text.splitlines()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    yield from _explained(root, "", lines)


def _explained(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[Value]:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        above = lines[key.start_mark.line - 1].strip() if key.start_mark.line else ""
        if above.startswith(_MARK):
            default = yaml.safe_dump(
                yaml.safe_load(yaml.serialize(value)), default_flow_style=True, width=1000, sort_keys=False
            )
            yield Value(path=path, default=default.removesuffix("\n...\n").strip(), meaning=above.removeprefix(_MARK))
        elif isinstance(value, yaml.MappingNode) and value.value:
            yield from _explained(value, f"{path}.", lines)
        else:
            raise ValueError(f"values.yaml, line {key.start_mark.line + 1}: {path} has no comment `{_MARK}…`")


def readme() -> str:
    """The chart's README."""
    head = (CHART / "README.md.in").read_text(encoding="utf-8")
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    rows = [f"| `{each.path}` | `{each.default}` | {each.meaning} |" for each in values(text)]
    return head.replace("VALUES", "\n".join(["| value | default | meaning |", "|---|---|---|", *rows]))


def committed() -> Mapping[Path, str]:
    """Every made file of the repository, and what it should say."""
    kinds = {
        CHART / "files/crds" / path.name: path.read_text("utf-8") for path in sorted((ROOT / "crds").glob("*.yaml"))
    }
    return {**kinds, CHART / "README.md": readme()}


def install(kubectl: Path) -> str:
    """`deploy/` as one file."""
    command = [str(kubectl), "kustomize", "--load-restrictor=LoadRestrictionsNone", str(ROOT / "deploy")]
    return subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout


def main() -> int:
    """Write them, or say which are not current."""
    parser = argparse.ArgumentParser(prog="python -m deploy.manifests", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a file is not current")
    options = parser.parse_args()
    stale = [path for path, text in committed().items() if not path.exists() or path.read_text("utf-8") != text]
    if options.check:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not current: run `make manifests`", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(committed()[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    from localcluster import binaries

    INSTALL.parent.mkdir(exist_ok=True)
    INSTALL.write_text(install(binaries.require(["kubectl"])["kubectl"]), encoding="utf-8")
    print(f"wrote {INSTALL.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
