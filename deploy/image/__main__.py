"""`make image`: make the operator's image and say how large it is."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from deploy.image.build import build
from localcluster.errors import ClusterError


def main() -> int:
    """Make it, copy it to where it is wanted and say what is in it."""
    parser = argparse.ArgumentParser(prog="python -m deploy.image", description="Makes the operator's image.")
    parser.add_argument("--name", default="", help="name and tag; docker.io/library/sidecarpolicy:<version> if none")
    parser.add_argument("--output", type=Path, default=Path("dist/sidecarpolicy-image.tar"), help="the OCI archive")
    options = parser.parse_args()
    try:
        image = build(options.name)
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(image.archive, options.output)
    print(f"{image.name} in {options.output}")
    for layer in image.layers:
        print(f"  {layer.name:12} {layer.size / 1e6:6.1f} MB, compressed {layer.compressed / 1e6:5.1f} MB")
    whole, packed = sum(each.size for each in image.layers), sum(each.compressed for each in image.layers)
    print(f"  {'whole':12} {whole / 1e6:6.1f} MB, compressed {packed / 1e6:5.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
