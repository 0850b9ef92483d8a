"""Stage `render`: scenes into shards of what every sensor sees, and boxes."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import argparse
import contextlib

from pipeline.running import stage
from scenegen.executors import RenderError
from scenegen.generate import render_dataset
from scenegen.manifest import read_manifest
from scenegen.params import SceneParams

__all__ = ["main"]


def main() -> None:
    """Render what is missing; finished shards that still fit the params are kept."""
    params, workers = stage.section("scenes", SceneParams), stage.workers()
    try:
        manifest = render_dataset(params, stage.DATASET, workers=workers)
    except RenderError as error:
        stage.fail(str(error))
    print(f"{params.count} scenes, dataset hash {manifest.sha256[:16]}")


def kept() -> str:
    """What an interrupted render keeps."""
    scenes = count = 0
    with contextlib.suppress(ValueError):
        manifest = read_manifest(stage.DATASET)
        scenes, count = sum(shard.count for shard in manifest.shards), manifest.count
    return f"{scenes} of {count} scenes are kept in {stage.DATASET}, and the next run adds the rest"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()  # params.yaml has all there is to say
    with stage.running("render", kept):
        main()
