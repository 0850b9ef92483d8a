"""Stage `render`: scenes into shards of image, depth, radar and boxes."""

from __future__ import annotations

import os

from pipeline import stage
from scenegen.generate import render_dataset
from scenegen.params import SceneParams

__all__ = ["main"]


def main() -> None:
    """Render what is missing; finished shards that still fit the params are kept."""
    params = stage.section("scenes", SceneParams)
    workers = int(os.environ.get("WORKERS", "0")) or None
    manifest = render_dataset(params, stage.DATASET, workers=workers)
    print(f"{params.count} scenes, dataset hash {manifest.sha256[:16]}")


if __name__ == "__main__":
    main()
