"""Stage `score_faults`: the same score while one sensor lies, with it and without it."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from base import code
from base.files import npz_bytes
from models.vae import MultimodalVAE
from pipeline.run import Run
from pipeline.running import stage
from pipeline.scoring.bootstrap import copies
from pipeline.scoring.decoding import Items, decode, named
from pipeline.scoring.faults import degrade
from pipeline.scoring.metrics import DETECTED, figures, under_faults
from pipeline.scoring.params import ScoreParams
from pipeline.scoring.scenes import rendered
from pipeline.scoring.scores import (
    Figures,
    Judge,
    Parts,
    code_of,
    detector_file,
    detectors_of,
    load_model,
    scenes_of,
)
from pipeline.study import ROOT, asked_run
from scenegen.manifest import MANIFEST

__all__ = ["main"]

CODE = code.loaded("pipeline.stages.score_faults")  # also where this is the script that runs


def _components(score: Path) -> dict[str, Any]:
    """As the table scores: with all sensors on as synergy, with one off as cross generation."""
    chosen = json.loads(score.read_text(encoding="utf-8"))
    return chosen["components"] | {"+".join(chosen["modalities"]): chosen["component"]}


def _scored(
    vae: MultimodalVAE,
    judge: Judge,
    params: ScoreParams,
    components: Mapping[str, int | None],
    seen: Items,
    given: Sequence[str],
) -> Figures:
    """TARGET -> the headline [1 + R] of what is generated from `given`, TARGET/METRIC -> another.

    Args:
        components: of a mixture, by the sensors that are given; of others one is drawn per scene.
    """
    component = components.get("+".join(given))
    generated = decode(vae, seen, given, seed=params.seed, point=params.point, component=component)
    metrics = under_faults(DETECTED, params.headline)
    return {
        m if key == params.headline else f"{m}/{key}": values
        for m, x in generated.items()
        for key, values in figures(metrics, judge.compared(m, x, judge.detect(m, x))).items()
    }


def _conditions(
    scored: Callable[[Items, Sequence[str]], Figures], scenes: Items, params: ScoreParams
) -> dict[str, Callable[[], Figures]]:
    """What is scored, by name: no fault, each sensor left out, and each faulty in every way."""
    names, faults = tuple(scenes.seen), params.faults

    def faulty(sensor: str, kind: str, severity: float) -> Figures:
        spoiled = degrade(kind, severity, sensor, scenes.seen[sensor], scenes.numbers, params.seed)
        return scored(replace(scenes, seen={**scenes.seen, sensor: spoiled}), names)

    others = {sensor: tuple(m for m in names if m != sensor) for sensor in names}
    return {
        "clean": partial(scored, scenes, names),
        **{f"without-{s}": partial(scored, scenes, given) for s, given in others.items()},
        **{
            f"{sensor}/{kind}/{severity}": partial(faulty, sensor, kind, severity)
            for sensor in names
            for kind in faults.kinds
            for severity in faults.severities
        },
    }


def main(run: Run) -> None:
    """Figures of every modality from all sensors while one is faulty, for each kind and severity.

    Written to data/faults/RUN.npz, each [1 + R] (the figure, then its resamples): `clean/TARGET`,
    `without-SENSOR/TARGET` and `SENSOR/KIND/SEVERITY/TARGET` are the headline metric, and the same
    with `/METRIC` behind it another.
    """
    params = stage.section("score", ScoreParams)
    score = run.scores(stage.RESULTS)
    components = stage.read(score, _components, f"python -m pipeline.stages.score {run}")
    dataset = rendered()
    vae = load_model(ROOT, run)
    detectors = detectors_of(vae, dataset.classes)
    names = tuple(vae.modalities)
    if len(names) < 2:
        stage.fail(f"{run}: has one sensor, {names[0]}; there is no other to rely on")
    scenes = scenes_of(dataset, "test", names, params.faults.scenes)
    drawn = copies(len(scenes.numbers), params.resamples, params.seed)
    judge = Judge(detectors, scenes, len(dataset.classes), drawn, params.headline)
    of_name = {None: None, **named(vae, scenes)}
    chosen = {given: of_name[name] for given, name in components.items()}
    makers = _conditions(partial(_scored, vae, judge, params, chosen), scenes, params)
    parts = Parts(
        f"faults-{run}",
        {
            "score": params.model_dump(),
            "components": components,
            "code": [CODE, *code_of(vae), *(c for d in detectors.values() for c in d.decided_by)],
        },
        [run.model(stage.DATA), *map(detector_file, names), stage.DATASET / MANIFEST],
        len(makers),
    )
    kept = {
        f"{name}/{of}": values.astype("float32")
        for name, part in parts.all(makers).items()
        for of, values in part.items()
    }
    stage.write_bytes(run.faults(stage.DATA), npz_bytes(kept))
    parts.clear()


if __name__ == "__main__":
    _, asked = asked_run(__doc__, ROOT)
    with stage.running(f"score_faults@{asked}", lambda: stage.PARTS_KEPT):
        main(asked)
