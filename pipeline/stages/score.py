"""Stages `score` and `score_unimodal`: one trained model through the detectors' eyes."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from base import code
from base.files import npz_bytes
from detector.boxes import Detections, Truth
from models.vae import MultimodalVAE
from pipeline.run import Run
from pipeline.running import stage
from pipeline.scoring.bootstrap import copies, mean
from pipeline.scoring.decoding import (
    Items,
    best_component,
    components,
    decode,
    name_of,
    sample,
)
from pipeline.scoring.mistakes import SURE, mistakes
from pipeline.scoring.params import ScoreParams
from pipeline.scoring.scenes import rendered
from pipeline.scoring.scores import (
    Judge,
    Part,
    Parts,
    agreement,
    code_of,
    detector_file,
    load,
    scenes_of,
    subsets,
    summary,
)
from pipeline.study import ROOT, asked_run
from scenegen.manifest import MANIFEST

__all__ = ["main"]

CODE = code.loaded("pipeline.stages.score")  # also where this is the script that runs
PICTURES = 24  # scenes kept for the report's pictures
BOXES = 8  # detections drawn in a picture

Subset = tuple[str, ...]


def table_subsets(modalities: Sequence[str]) -> list[Subset]:
    """The subsets that Table III needs: all but one sensor, and all of them."""
    return [s for s in subsets(modalities) if len(s) >= len(modalities) - 1]


def picture_boxes(detections: list[Detections]) -> np.ndarray:
    """The surest detections of the first scenes: [PICTURES, BOXES, 6], padded with NaN."""
    rows = np.full((min(PICTURES, len(detections)), BOXES, 6), np.nan, np.float32)
    for row, found in zip(rows, detections, strict=False):
        for slot, i in zip(row, np.argsort(-found.scores)[:BOXES], strict=False):
            slot[:] = (*found.boxes[i], found.scores[i], found.classes[i])
    return rows


def worst_scene(detections: list[Detections], truths: list[Truth]) -> tuple[int, np.ndarray]:
    """The first of the scenes in which most objects are missed or made up, and how many are.

    Returns:
        The scene's place, and int64 [2]: objects missed, and surely detected where there is none.
    """

    def count(found: Detections, truth: Truth) -> tuple[int, int]:
        sure = found.scores >= SURE
        boxes = np.column_stack([found.boxes[sure], found.classes[sure]])
        return mistakes(boxes, np.column_stack(truth))

    wrong = np.array([count(f, t) for f, t in zip(detections, truths, strict=True)])
    worst = int(wrong.sum(1).argmax())
    return worst, wrong[worst]


def scored(judge: Judge, generated: dict[str, np.ndarray], targets: Sequence[str]) -> Part:
    """Figures [1 + R] by target and metric, and what the report draws of the first scenes."""
    part: Part = {}
    for m, x in generated.items():
        found = judge.detect(m, x if m in targets else x[:PICTURES])
        part |= {f"pictures/{m}": x[:PICTURES], f"boxes/{m}": picture_boxes(found)}
        if m in targets:
            worst, wrong = worst_scene(found, judge.scenes.truths[m])
            part |= {
                f"worst/{m}": x[worst][None],
                f"worst-boxes/{m}": picture_boxes([found[worst]]),
                f"worst-scene/{m}": judge.scenes.numbers[worst][None],
                f"worst-mistakes/{m}": wrong[None],
            }
            part |= {f"figures/{m}/{k}": values for k, values in judge.score(m, x, found).items()}
    return part


def figures(part: Part, modality: str) -> Part:
    """Metric -> figures [1 + R] of one modality in a part."""
    prefix = f"figures/{modality}/"
    return {k.removeprefix(prefix): values for k, values in part.items() if k.startswith(prefix)}


def shown(part: Part, modalities: Sequence[str]) -> dict[str, Any]:
    """The figures that a part has, as the score file shows them."""
    return {m: summary(found) for m in modalities if (found := figures(part, m))}


def moved(part: Part, other: Part, modalities: Sequence[str]) -> dict[str, Any]:
    """How far the figures of a part lie above another's, on the same resamples."""
    return {
        m: summary({k: values - figures(other, m)[k] for k, values in found.items()})
        for m in modalities
        if (found := figures(part, m))
    }


def cost(run: Run) -> dict[str, float]:
    """What the training of `run` took; one line and exit code 2 if it left no record."""

    def costs(file: Path) -> dict[str, float]:
        training = json.loads(file.read_text(encoding="utf-8"))
        return {k: training[k] for k in ("train_seconds", "parameters", "encodes", "decodes")}

    return stage.read(run.training(stage.RESULTS), costs)


def tried(given: Subset, component: int) -> str:
    """The part in which a component is tried on validation."""
    return f"validation-{'+'.join(given)}-{component}"


def _tried(tries: Mapping[str, Part], given: Subset, component: int) -> float:
    return float(tries[tried(given, component)]["quality"])


def quality(
    generate: Callable[..., dict[str, np.ndarray]], judge: Judge, given: Subset, component: int
) -> Part:
    """The mAP@0.5 of a component.

    The mean is over what is generated: the modalities that are missing, or all if none is; those
    of which no scene shows an object have no mAP, and no say.
    """
    generated = generate(judge.scenes, given, component=component)
    targets = [m for m in generated if m not in given] or list(generated)
    return {"quality": mean([judge.map50(m, judge.detect(m, generated[m])) for m in targets])[0]}


def joint_agreement(vae: MultimodalVAE, judge: Judge, params: ScoreParams) -> Part:
    """How far image and depth drawn from the prior show the same objects."""
    drawn = sample(vae, ("image", "depth"), params.samples, params.seed)
    found, reference = (judge.detect(m, x) for m, x in drawn.items())
    resampled = copies(params.samples, params.resamples, params.seed)
    return agreement(found, reference, judge.n_classes, resampled)


def ceiling(judge: Judge, modalities: Sequence[str]) -> Part:
    """What the detectors find in the sensors' own pictures, the measure of what a VAE generates."""
    part: Part = {}
    for m in modalities:
        seen = judge.scenes.seen[m]
        found = judge.score(m, seen, judge.detect(m, seen))
        part |= {f"figures/{m}/{k}": found[k] for k in ("map50", "map50_95", "map50_agnostic")}
    return part


def examples(parts: Mapping[str, Part], modalities: Sequence[str]) -> Part:
    """The report's pictures and boxes: `SUBSET/TARGET` and `SUBSET/TARGET/boxes`.

    With the worst scene of a target that is scored: `.../worst`, `.../worst-boxes`,
    `.../worst-scene`, and `.../worst-mistakes` (missed, made up), of length 1 each.
    """
    kept: Part = {}
    for name, part in parts.items():
        for m in modalities:
            kept[f"{name}/{m}"] = part[f"pictures/{m}"]
            for kind in ("boxes", "worst", "worst-boxes", "worst-scene", "worst-mistakes"):
                if f"{kind}/{m}" in part:
                    kept[f"{name}/{m}/{kind}"] = part[f"{kind}/{m}"]
    return kept


def replicates(parts: Mapping[str, Part], modalities: Sequence[str]) -> Part:
    """Figures [1 + R], each with its resamples, to be paired later.

    `SUBSET/TARGET` is mAP@0.5, `SUBSET/TARGET/METRIC` another; `prior-SUBSET` has the prior in
    place of what is missing.
    """
    return {
        f"{name}/{m}" + ("" if metric == "map50" else f"/{metric}"): values
        for name, part in parts.items()
        for m in modalities
        for metric, values in figures(part, m).items()
    }


@dataclass(frozen=True)
class Plan:
    """What is scored of a model, and which components of a mixture are decoded for it.

    Attributes:
        everything: all subsets and joint agreement, or Table III's columns alone.
        asked: subsets of the matrix.
        as_prior: those that are scored with the prior in place of a missing sensor too.
        live: subset -> components of its posterior that are alive.
        crosses_by_best: subsets of the matrix whose component is the best on validation.
        gains_by_best: whether the synergy gain's is.
        jointly: whether prior samples are scored.
        alone: whether it is a unimodal VAE, which is compared with the sensor's own pictures.
    """

    everything: bool
    asked: list[Subset]
    as_prior: list[Subset]
    live: dict[Subset, list[int]]
    crosses_by_best: list[Subset]
    gains_by_best: bool
    jointly: bool
    alone: bool

    @property
    def chosen(self) -> list[Subset]:
        """Subsets for which a component is chosen on validation."""
        gains = [self.asked[-1]] if self.gains_by_best else []
        return list(dict.fromkeys([*self.crosses_by_best, *gains]))

    @property
    def apart(self) -> bool:
        """Whether the synergy gain is of another entry than the matrix's of all sensors."""
        return (self.asked[-1] in self.crosses_by_best) != self.gains_by_best

    @property
    def count(self) -> int:
        """How many parts that are."""
        choices = sum(len(self.live[given]) for given in self.chosen)
        once = self.apart + self.jointly + self.alone
        return len(self.asked) + len(self.as_prior) + choices + once


def planned(vae: MultimodalVAE, scenes: Items, params: ScoreParams) -> Plan:
    """What `params` ask for of this model."""
    names = tuple(vae.modalities)
    everything = params.subsets == "all"
    asked = subsets(names) if everything else table_subsets(names)
    live = {given: components(vae, scenes, given) for given in asked}
    mixed = [given for given in asked if len(live[given]) > 1]
    by_best = [given for given in mixed if params.cross_component == "best"]
    gains_by_best = names in mixed and params.synergy_component == "best"
    if not everything:  # the table shows what all sensors give as synergy alone
        by_best = [given for given in by_best if given != names] + [names] * gains_by_best
    return Plan(
        everything,
        asked,
        table_subsets(names)[:-1] if everything and vae.objective_traits.missing_as_prior else [],
        live,
        by_best,
        gains_by_best,
        everything and bool(params.samples) and {"image", "depth"} <= set(names),
        len(names) == 1,
    )


def rules(
    run: Run,
    vae: MultimodalVAE,
    scenes: Items,
    params: ScoreParams,
    plan: Plan,
    chosen_on: int | None,
) -> dict[str, Any]:
    """Of what a score file is, how it was decoded, and how many scenes chose a component."""
    mixture = len(plan.live[tuple(vae.modalities)]) > 1
    return {
        "run": str(run),
        "fusion": vae.cell.fusion,
        "objective": vae.cell.objective,
        "seed": run.seed,
        "modalities": list(vae.modalities),
        "split": "test",
        "scenes": len(scenes.numbers),
        "resamples": params.resamples,
        "point": params.point,
        "missing": "absent",
        "mixture": mixture,
        "cross_component": params.cross_component if mixture else None,
        "synergy_component": params.synergy_component if mixture else None,
        "choosing": chosen_on,
        "drawn_per_element": vae.fusion_traits.random,
    }


def main(run: Run) -> None:
    """Score the model of `run` on the test split."""
    params = stage.section("score", ScoreParams)
    costs = cost(run)
    dataset = rendered()
    vae, detectors = load(run, dataset.classes)
    names = tuple(vae.modalities)

    def judge_of(split: str, most: int | None, resamples: int) -> Judge:
        scenes = scenes_of(dataset, split, names, most)
        drawn = copies(len(scenes.numbers), resamples, params.seed)
        return Judge(detectors, scenes, len(dataset.classes), drawn)

    judge = judge_of("test", params.scenes, params.resamples)
    generate = partial(decode, vae, seed=params.seed, point=params.point)
    plan = planned(vae, judge.scenes, params)
    parts = Parts(
        f"score-{run}",
        {"score": params.model_dump(exclude={"faults"}), "code": [CODE, *code_of(vae, detectors)]},
        [run.model(stage.DATA), *map(detector_file, names), stage.DATASET / MANIFEST],
        plan.count,
    )

    best, chosen_on = {}, None
    if plan.chosen:
        held_out = judge_of("validation", params.choosing, 0)
        chosen_on = len(held_out.scenes.numbers)
        tries = parts.all(
            {
                tried(g, c): partial(quality, generate, held_out, g, c)
                for g in plan.chosen
                for c in plan.live[g]
            }
        )
        best = {g: best_component(plan.live[g], partial(_tried, tries, g)) for g in plan.chosen}

    def entry(given: Subset, by_best: bool = False, **how: Any) -> Callable[[], Part]:
        # Table III looks at what is missing, and at everything if nothing is; so does the prior.
        missing = [m for m in names if m not in given] or names
        targets = names if plan.everything and not how else missing
        component = best[given] if by_best else None

        def make() -> Part:
            generated = generate(judge.scenes, given, component=component, **how)
            return scored(judge, generated, targets)

        return make

    # The longest of the table's first: the last ones should end together.
    makers = {
        f"subset-{'+'.join(g)}": entry(g, g in plan.crosses_by_best) for g in plan.asked[::-1]
    }
    makers |= {f"prior-{'+'.join(g)}": entry(g, missing="prior") for g in plan.as_prior}
    if plan.apart:
        makers["synergy"] = entry(names, plan.gains_by_best)
    if plan.alone:
        makers["ceiling"] = partial(ceiling, judge, names)
    if plan.jointly:
        makers["joint"] = partial(joint_agreement, vae, judge, params)
    made = parts.all(makers)

    by_name = {name: made[f"subset-{name}"] for name in map("+".join, plan.asked)}
    prior = {name: made[f"prior-{name}"] for name in map("+".join, plan.as_prior)}
    synergy = made.get("synergy", by_name["+".join(names)])
    joint = made.get("joint")
    component = best[names] if plan.gains_by_best else None
    taken = {g: best[g] for g in plan.crosses_by_best}
    stage.write_bytes(
        run.samples(stage.DATA),
        npz_bytes({"scenes": judge.scenes.numbers[:PICTURES], **examples(by_name, names)}),
    )
    stage.write_bytes(
        run.bootstrap(stage.DATA),
        npz_bytes(
            replicates(
                {
                    **by_name,
                    **{f"prior-{name}": found for name, found in prior.items()},
                    "synergy": synergy,
                    "ceiling": made.get("ceiling", {}),
                },
                names,
            )
        ),
    )
    stage.write_json(
        run.scores(stage.RESULTS),
        {
            **rules(run, vae, judge.scenes, params, plan, chosen_on),
            "component": name_of(vae, judge.scenes, component),
            "components": {"+".join(g): name_of(vae, judge.scenes, c) for g, c in taken.items()},
            "subsets": {name: shown(found, names) for name, found in by_name.items()},
            "subsets_missing_as_prior": (
                {name: shown(found, names) for name, found in prior.items()} or None
            ),
            "prior_minus_absent": (
                {name: moved(found, by_name[name], names) for name, found in prior.items()} or None
            ),
            "synergy": shown(synergy, names),
            "ceiling": shown(made["ceiling"], names) if plan.alone else None,
            # Samples whose depth shows no object agree on nothing.
            "joint": {"image-depth": summary(joint)} if joint and joint["objects"][0] else None,
            "cost": costs,
        },
    )
    parts.clear()


if __name__ == "__main__":
    _, asked = asked_run(__doc__, ROOT)
    alone = "_unimodal" if ROOT.alone(asked) else ""
    with stage.running(f"score{alone}@{asked}", lambda: stage.PARTS_KEPT):
        main(asked)
