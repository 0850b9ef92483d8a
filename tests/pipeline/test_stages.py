"""dvc.yaml: exact dependencies, and a change makes stale what depends on it and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from models.params import Cell
from pipeline import cells
from scenegen import manifest
from tests.conftest import ROOT, run
from tests.pipeline.imports import closure

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())


def _script(stage: dict[str, Any]) -> Path:
    module = stage["cmd"].split()[2]
    return ROOT / f"{module.replace('.', '/')}.py"


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_exactly_the_code_it_imports(name: str) -> None:
    """Fusions and objectives are imported by name: data/checked/cells stands for them."""
    listed = {dep for dep in STAGES[name]["deps"] if dep.endswith(".py")}
    assert listed == closure(ROOT, _script(STAGES[name]))


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_says_what_it_is_for_and_waits_for_the_check(name: str) -> None:
    assert STAGES[name]["desc"]
    assert name == "check" or "data/checked/params" in STAGES[name]["deps"]


def leaves(value: Any, key: str) -> Iterator[str]:
    """The keys below `key` that hold no mapping."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}")
    else:
        yield key


def test_every_param_reaches_a_stage_as_a_leaf() -> None:
    """A param no stage lists changes nothing; a section as a whole makes too much stale."""
    listed = {
        key.replace("${item.modality}", modality)
        for stage in STAGES.values()
        for key in stage.get("params", [])
        for modality in ("image", "depth", "radar")
    }
    wanted = set(leaves({k: v for k, v in PARAMS.items() if k != "grid"}, "")) | {
        ".grid.cells",
        ".grid.seeds",
        ".grid.cells.${item.cell}",
    }
    assert {f".{key}" for key in listed} == wanted


@pytest.fixture
def project(smoke: Path, tmp_path: Path) -> Path:
    """A copy of the finished smoke run that a test may change."""
    return Path(shutil.copytree(smoke, tmp_path / "project", symlinks=True))


def change(project: Path, key: str, value: Any) -> None:
    """Set one key of the project's params.yaml."""
    yaml = YAML()
    document = yaml.load((project / "params.yaml").read_text())
    *parents, leaf = key.split(".")
    section = document
    for name in parents:
        section = section[name]
    section[leaf] = value
    yaml.dump(document, project / "params.yaml")


def stale(project: Path) -> set[str]:
    """Stages that DVC finds changed once `check` has looked at params.yaml and the code."""
    run(project, "dvc", "repro", "check")
    status = json.loads(run(project, "dvc", "status", "--json", "dvc.yaml").stdout)
    return {name.split(":")[-1] for name in status}


def test_a_second_repro_has_nothing_to_do(project: Path) -> None:
    assert stale(project) == set()
    assert "up to date" in run(project, "dvc", "repro").stdout


TRAININGS = {
    "train_vae@moe-none-0",
    "train_vae@poe-none-0",
    "train_vae@poe-ecg-0",
    "train_unimodal@image-0",
    "train_unimodal@depth-0",
    "train_unimodal@radar-0",
}
CHANGES = [
    ("scenes.objects.count", [1, 1], {"render"}),
    ("vae.training.learning_rate", 0.0007, TRAININGS),
    ("detector.radar.epochs", 7, {"train_detector@radar"}),
    ("report.examples", 5, {"report"}),
    ("score.choosing", 50, {"score@moe-none-0", "score@poe-none-0", "score@poe-ecg-0"}),
    ("grid.cells.bce-lcd", {"fusion": "bce", "objective": "lcd"},
     {"train_vae@bce-lcd-0", "score@bce-lcd-0", "score_faults@bce-lcd-0", "summary", "report"}),
    ("score.faults.severities", [0.5],
     {"score_faults@moe-none-0", "score_faults@poe-none-0", "score_faults@poe-ecg-0", "report"}),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "expected"), CHANGES, ids=[key for key, _, _ in CHANGES])
def test_a_change_makes_stale_what_depends_on_it_and_nothing_else(
    project: Path, key: str, value: Any, expected: set[str]
) -> None:
    change(project, key, value)
    assert stale(project) == expected


def test_a_new_fusion_makes_nothing_stale_until_a_cell_uses_it(project: Path) -> None:
    shutil.copy(project / "models/fusions/poe.py", project / "models/fusions/mine.py")
    assert stale(project) == set()
    change(project, "grid.cells.mine-none", {"fusion": "mine", "objective": "none"})
    new = {f"{stage}@mine-none-0" for stage in ("train_vae", "score", "score_faults")}
    assert stale(project) == new | {"summary", "report"}


@pytest.mark.parametrize(
    ("file", "cell"), [("objectives/ecg.py", "poe-ecg-0"), ("fusions/moe.py", "moe-none-0")]
)
def test_an_edited_fusion_or_objective_makes_only_its_own_cells_stale(
    project: Path, file: str, cell: str
) -> None:
    with open(project / "models" / file, "a") as code:
        code.write("# edited\n")
    assert stale(project) == {f"{s}@{cell}" for s in ("train_vae", "score", "score_faults")}


def test_a_fusion_stands_on_the_fusions_it_imports() -> None:
    assert b"models/fusions/poe.py" in cells.code(Cell(fusion="mopoe", objective="none"))
    assert b"mopoe" not in cells.code(Cell(fusion="poe", objective="none"))


@pytest.mark.parametrize(
    "line",
    [
        "from models.fusions import moe, poe",
        "from models.fusions import (\n    moe,\n    poe,\n)",
        "from models.fusions.poe import fuse",
        "import models.fusions.poe as base",
        "from . import moe, poe",
        "from .poe import fuse",
        "from ..fusions import poe",
    ],
)
def test_a_fusion_stands_on_what_it_imports_in_any_form(
    project: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "models/fusions/mine.py").write_text(f"from models.fusions import load\n{line}\n")
    monkeypatch.chdir(project)
    mine = Cell.model_construct(fusion="mine", objective="none")
    assert b"  models/fusions/poe.py\n" in cells.code(mine)
    assert b"networks" not in cells.code(mine)


def test_a_fusion_stands_on_a_helper_of_its_own(project: Path) -> None:
    (project / "models/helper.py").write_text("HALF = 0.5\n")
    with open(project / "models/fusions/moe.py", "a") as code:
        code.write("from models import helper\n")
    run(project, "dvc", "repro", "check")
    with open(project / "models/helper.py", "a") as code:
        code.write("# edited\n")
    before = (project / "data/checked/cells/moe-none").read_bytes()
    run(project, "dvc", "repro", "check")
    assert (project / "data/checked/cells/moe-none").read_bytes() != before


def test_a_shard_is_known_by_all_the_code_that_decides_it() -> None:
    deciding = closure(ROOT, ROOT / "scenegen/records.py") | closure(
        ROOT, ROOT / "scenegen/blender.py"
    )
    assert {f"scenegen/{name}.py" for name in manifest.CODE} == deciding - {"scenegen/params.py"}


def test_rendering_knows_no_torch_and_training_no_blender() -> None:
    for module, foreign in (
        ("render", "torch"),
        ("train_vae", "bpy"),
        ("score", "bpy"),
        ("report", "torch"),
    ):
        code = f"import sys, pipeline.{module}; sys.exit({foreign!r} in sys.modules)"
        assert run(ROOT, "python", "-c", code, check=False).returncode == 0, module
