"""The committed results keep what is asked of the yardstick."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ruamel.yaml import YAML

from scenegen.params import SENSORS as MODALITIES
from tests.conftest import shipped

DETECTED = ("map50", "map50_95", "map50_agnostic")


def told(name: str) -> Any:
    return json.loads(shipped(f"results/{name}.json"))


@pytest.mark.parametrize(("folder", "least"), [("detectors", 0.95), ("paper/detectors", 0.98)])
def test_detectors_find_the_objects_of_clean_scenes(folder: str, least: float) -> None:
    for modality in ("image", "depth"):
        for split in ("validation", "test"):
            assert told(f"{folder}/{modality}")[split]["map50"] >= least, (modality, split)


def test_no_vae_is_found_better_than_what_it_learned_from() -> None:
    """Beyond what the choice of scenes may do: no interval lies above its ceiling."""
    grid = YAML(typ="safe").load(shipped("params.yaml"))["grid"]
    ceilings = {m: told(f"scores/{m}-{grid['seeds'][0]}")["ceiling"][m] for m in MODALITIES}
    compared = 0
    for name in (*grid["cells"], *MODALITIES):
        score = told(f"scores/{name}-{grid['seeds'][0]}")
        for row in [
            *score["subsets"].values(),
            *(score["subsets_missing_as_prior"] or {}).values(),
            score["synergy"],
        ]:
            for modality, entry in row.items():
                for metric in DETECTED:
                    low, _ = entry["ci"].get(metric, (entry[metric], None))
                    assert low <= ceilings[modality][metric], (name, modality, metric)
                    compared += 1
    assert compared > 300
