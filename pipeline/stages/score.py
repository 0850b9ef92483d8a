"""Stages `score` and `score_unimodal`: one trained model through the eyes of its study's judge."""

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
import torch

from base import code
from base.files import npz_bytes
from models.vae import MultimodalVAE
from pipeline.run import Run
from pipeline.running import stage
from pipeline.scoring.bootstrap import average, copies, mean
from pipeline.scoring.decoding import (
    Decoded,
    Items,
    best_component,
    components,
    decode,
    name_of,
)
from pipeline.scoring.judging import Bench, Judge
from pipeline.scoring.scores import Part, Parts, code_of, load_model, subsets, summary
from pipeline.study import Study, asked_run

__all__ = ["main"]

PICTURES = 24  # items of which a judge keeps something to be shown
WEIGHED, POINTS = 32, 16  # the first items whose log p(x) is estimated, and K draws for each

Subset = tuple[str, ...]


def table_subsets(modalities: Sequence[str]) -> list[Subset]:
    """The subsets that Table III needs: all but one sensor, and all of them."""
    return [s for s in subsets(modalities) if len(s) >= len(modalities) - 1]


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


def cost(study: Study, run: Run) -> dict[str, float]:
    """What a step of `run` and its model cost, the same on every machine.

    One line and exit code 2 if the training left no record.
    """

    def costs(file: Path) -> dict[str, float]:
        training = json.loads(file.read_text(encoding="utf-8"))
        return {k: training[k] for k in ("parameters", "encodes", "decodes")}

    return study.read(run.training(study.results), costs)


def tried(given: Subset, component: int) -> str:
    """The part in which a component is tried on validation."""
    return f"validation-{'+'.join(given)}-{component}"


def _tried(tries: Mapping[str, Part], given: Subset, component: int) -> float:
    return float(tries[tried(given, component)]["quality"])


def quality(generate: Callable[..., Decoded], judge: Judge, given: Subset, component: int) -> Part:
    """The judge's figure for a component.

    The mean is over what is generated: the modalities that are missing, or all if none is; those
    without a figure, as where no scene shows an object, have no say.
    """
    generated = generate(judge.items, given, component=component)
    targets = [m for m in generated if m not in given] or list(generated)
    return {"quality": mean([judge.quality(m, generated[m]) for m in targets])[0]}


def likelihood(vae: MultimodalVAE, items: Items, params: Any) -> Part:
    """`log_likelihood` [1 + R]: the mean of the first items' log p(x) in nats, of all modalities.

    Estimated with K importance samples of the posterior, and so too low on average
    (`MultimodalVAE.log_likelihood`).
    """
    first = {m: torch.from_numpy(x[:WEIGHED]) for m, x in items.seen.items() if m in vae.modalities}
    generator = torch.Generator(vae.device).manual_seed(params.seed)
    nats = vae.log_likelihood(first, POINTS, generator).double().cpu().numpy()
    return {"log_likelihood": average(nats, copies(len(nats), params.resamples, params.seed))}


def examples(parts: Mapping[str, Part]) -> Part:
    """What the report shows: `SUBSET/TARGET` are pictures, `SUBSET/TARGET/KIND` what else is kept.

    As the worst scene of a target that is scored: `.../worst`, `.../worst-boxes`,
    `.../worst-scene`, and `.../worst-mistakes` (missed, made up), of length 1 each.
    """
    return {
        f"{name}/{m}" + ("" if kind == "pictures" else f"/{kind}"): values
        for name, part in parts.items()
        for key, values in part.items()
        if key.count("/") == 1
        for kind, m in [key.split("/")]
    }


def replicates(parts: Mapping[str, Part], modalities: Sequence[str], headline: str) -> Part:
    """Figures [1 + R], each with its resamples, to be paired later.

    `SUBSET/TARGET` is the headline metric, `SUBSET/TARGET/METRIC` another; `prior-SUBSET` has the
    prior in place of what is missing.
    """
    return {
        f"{name}/{m}" + ("" if metric == headline else f"/{metric}"): values
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
        once = 1 + self.apart + self.jointly + self.alone  # 1: the likelihood
        return len(self.asked) + len(self.as_prior) + choices + once


def planned(vae: MultimodalVAE, scenes: Items, params: Any, pair: Sequence[str]) -> Plan:
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
        everything and bool(params.samples) and set(pair) <= set(names),
        len(names) == 1,
    )


def rules(
    run: Run,
    vae: MultimodalVAE,
    scenes: Items,
    params: Any,
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


def main(study: Study, run: Run) -> None:
    """Score the model of `run` on the test split."""
    part = study.part("judge")
    decided_by = code.loaded("pipeline.stages.score", study=study.name)
    params = study.section("score", part.ScoreParams)
    costs, vae = cost(study, run), load_model(study, run)
    names = tuple(vae.modalities)
    bench: Bench = part.Bench(vae, params.headline)
    judge = bench.judge("test", params.scenes, params.resamples, params.seed)
    generate = partial(decode, vae, seed=params.seed, point=params.point)
    plan = planned(vae, judge.items, params, bench.pair)
    parts = Parts(
        f"{study.scope}score-{run}",
        {
            "score": params.model_dump(exclude={"faults"}),
            "code": [decided_by, *code_of(vae), *bench.code],
        },
        [run.model(study.data), *bench.files],
        plan.count,
    )

    best, chosen_on = {}, None
    if plan.chosen:
        held_out = bench.judge("validation", params.choosing, 0, params.seed)
        chosen_on = len(held_out.items.numbers)
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
            generated = generate(judge.items, given, component=component, **how)
            return judge.part(generated, targets)

        return make

    # The longest of the table's first: the last ones should end together.
    makers = {
        f"subset-{'+'.join(g)}": entry(g, g in plan.crosses_by_best) for g in plan.asked[::-1]
    }
    makers |= {f"prior-{'+'.join(g)}": entry(g, missing="prior") for g in plan.as_prior}
    if plan.apart:
        makers["synergy"] = entry(names, plan.gains_by_best)
    if plan.alone:
        makers["ceiling"] = partial(judge.ceiling, names)
    makers["likelihood"] = partial(likelihood, vae, judge.items, params)
    if plan.jointly:
        makers["joint"] = partial(judge.joint, vae, params)
    made = parts.all(makers)

    by_name = {name: made[f"subset-{name}"] for name in map("+".join, plan.asked)}
    prior = {name: made[f"prior-{name}"] for name in map("+".join, plan.as_prior)}
    synergy = made.get("synergy", by_name["+".join(names)])
    joint = made.get("joint", {})
    agreed = {metric: values for metric, values in joint.items() if "/" not in metric}
    shared = next(iter(agreed.values()), np.full(1, np.nan))  # agreement comes before its details
    component = best[names] if plan.gains_by_best else None
    taken = {g: best[g] for g in plan.crosses_by_best}
    pair = "-".join(bench.pair)
    shows = examples({**by_name, "prior": joint, **bench.extra(generate)})
    kept = replicates(
        {
            **by_name,
            **{f"prior-{name}": found for name, found in prior.items()},
            "synergy": synergy,
            "ceiling": made.get("ceiling", {}),
        },
        names,
        bench.headline,
    )
    if agreed:
        kept[f"joint/{pair}"] = shared
    stage.write_bytes(
        run.samples(study.data), npz_bytes({"scenes": judge.items.numbers[:PICTURES], **shows})
    )
    stage.write_bytes(run.bootstrap(study.data), npz_bytes(kept))
    stage.write_json(
        run.scores(study.results),
        {
            **rules(run, vae, judge.items, params, plan, chosen_on),
            "component": name_of(vae, judge.items, component),
            "components": {"+".join(g): name_of(vae, judge.items, c) for g, c in taken.items()},
            "subsets": {name: shown(found, names) for name, found in by_name.items()},
            "subsets_missing_as_prior": (
                {name: shown(found, names) for name, found in prior.items()} or None
            ),
            "prior_minus_absent": (
                {name: moved(found, by_name[name], names) for name, found in prior.items()} or None
            ),
            "synergy": shown(synergy, names),
            "ceiling": shown(made["ceiling"], names) if plan.alone else None,
            # Samples that show nothing agree on nothing.
            "joint": {pair: summary(agreed)} if np.isfinite(shared[0]) else None,
            "likelihood": {
                **summary(made["likelihood"]),
                "scenes": min(WEIGHED, len(judge.items.numbers)),
                "samples": POINTS,
            },
            "cost": costs,
        },
    )
    parts.clear()


if __name__ == "__main__":
    study, asked = asked_run(__doc__)
    alone = "_unimodal" if study.alone(asked) else ""
    with study.running(f"score{alone}@{asked}", lambda: stage.PARTS_KEPT):
        main(study, asked)
