"""Stage `score_faults`: the same score while one sensor lies, with it, without it, and where the
model itself is to find it and leave it out."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch

from base import code
from base.files import npz_bytes
from models import consistency
from models.vae import MultimodalVAE
from pipeline.run import Run
from pipeline.running import stage
from pipeline.scoring import detection
from pipeline.scoring.bootstrap import copies
from pipeline.scoring.decoding import Items, decode, named
from pipeline.scoring.detection import Alarms, examined, false_alarms
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


@dataclass(frozen=True)
class Conditions:
    """One model on the same scenes, with no fault and with each.

    Attributes:
        components: sensors, joined by +, -> the component that is decoded from them.
        clean: what the model says of its sensors where none is faulty; None if it cannot tell.
    """

    vae: MultimodalVAE
    judge: Judge
    params: ScoreParams
    components: Mapping[str, int]
    clean: Alarms | None

    def scored(
        self, seen: Items, given: Sequence[str], reject: Literal["none", "auto"] = "none"
    ) -> Figures:
        """TARGET[/METRIC] -> the figure of what is generated from these sensors."""
        headline = self.params.headline
        metrics = under_faults(DETECTED, headline)
        generated = decode(
            self.vae,
            seen,
            given,
            seed=self.params.seed,
            point=self.params.point,
            component=self.components.get("+".join(given)),
            reject=reject,
        )
        return {
            m if key == headline else f"{m}/{key}": values
            for m, x in generated.items()
            for key, values in figures(
                metrics, self.judge.compared(m, x, self.judge.detect(m, x))
            ).items()
        }

    def spoiled(self, sensor: str, kind: str, severity: float) -> Items:
        """The scenes as they are seen while this sensor is faulty."""
        scenes = self.judge.scenes
        picture = scenes.seen[sensor]
        bad = degrade(kind, severity, sensor, picture, scenes.numbers, self.params.seed)
        return replace(scenes, seen={**scenes.seen, sensor: bad})

    def faulty(
        self, sensor: str, kind: str, severity: float, reject: Literal["none", "auto"] = "none"
    ) -> Figures:
        """As `scored`, from all sensors, this one among them."""
        return self.scored(self.spoiled(sensor, kind, severity), self.vae.modalities, reject)

    def detected(self, sensor: str, kind: str, severity: float) -> Figures:
        """How well the model tells that this sensor is faulty: see `detection.figures`."""
        seen = self.spoiled(sensor, kind, severity)
        before, after = (items.seen[sensor] for items in (self.judge.scenes, seen))
        changed = (before != after).any((1, 2, 3))
        found = examined(self.vae, seen, self.params.seed)
        assert self.clean is not None
        return detection.figures(sensor, found, self.clean, changed, self.judge.copies)

    def makers(self) -> dict[str, Callable[[], Figures]]:
        """What makes the figures of each condition, by its name."""
        names, scenes, faults = self.vae.modalities, self.judge.scenes, self.params.faults
        cases = list(product(names, faults.kinds, faults.severities))
        makers: dict[str, Callable[[], Figures]] = {"clean": partial(self.scored, scenes, names)}
        for sensor in names:
            others = [m for m in names if m != sensor]
            makers[f"without-{sensor}"] = partial(self.scored, scenes, others)
        makers |= {"/".join(map(str, case)): partial(self.faulty, *case) for case in cases}
        if self.clean is None:
            return makers
        makers["auto-clean"] = partial(self.scored, scenes, names, "auto")
        makers["detect-clean"] = partial(false_alarms, self.clean, self.judge.copies)
        for case in cases:
            name = "/".join(map(str, case))
            makers[f"auto-{name}"] = partial(self.faulty, *case, "auto")
            makers[f"detect-{name}"] = partial(self.detected, *case)
        return makers


def main(run: Run) -> None:
    """Figures of every modality from all sensors while one is faulty, for each kind and severity.

    Written to data/faults/RUN.npz, each [1 + R] (the figure, then its resamples): `clean/TARGET`,
    `without-SENSOR/TARGET` and `SENSOR/KIND/SEVERITY/TARGET` are the headline metric, and the same
    with `/METRIC` behind it another. `auto-` before `clean` or a condition: where the model leaves
    out whom it flags. `detect-` before it: how well it tells (`detection.figures`).
    """
    params = stage.section("score", ScoreParams)
    score = run.scores(stage.RESULTS)
    components = stage.read(score, _components, f"python -m pipeline.stages.score {run}")
    dataset = rendered()
    vae = load_model(ROOT, run)
    detectors = detectors_of(vae, dataset.classes)
    names = vae.modalities
    if len(names) < 2:
        stage.fail(f"{run}: has one sensor, {names[0]}; there is no other to rely on")
    scenes = scenes_of(dataset, "test", names, params.faults.scenes)
    drawn = copies(len(scenes.numbers), params.resamples, params.seed)
    tells = consistency.applies(vae)
    if tells and vae.calibration is None:  # trained before models were calibrated
        held_out = {m: torch.from_numpy(dataset.array(m, "validation")) for m in names}
        vae.calibrate(held_out, params.seed)
    of_name = named(vae, scenes)
    makers = Conditions(
        vae,
        Judge(detectors, scenes, len(dataset.classes), drawn, params.headline),
        params,
        {given: of_name[which] for given, which in components.items() if which is not None},
        examined(vae, scenes, params.seed) if tells else None,
    ).makers()
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
    found = parts.all(makers)
    kept = {
        f"{name}/{of}": values.astype("float32")
        for name, part in found.items()
        for of, values in part.items()
    }
    stage.write_bytes(run.faults(stage.DATA), npz_bytes(kept))
    parts.clear()


if __name__ == "__main__":
    _, asked = asked_run(__doc__, ROOT)
    with stage.running(f"score_faults@{asked}", lambda: stage.PARTS_KEPT):
        main(asked)
