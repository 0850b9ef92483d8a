"""dvc.yaml: exact dependencies, and a change makes stale what depends on it and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ruamel.yaml import YAML

from base import code
from detector.params import Detectors
from models.params import Cell
from pipeline.cells import checked, write_checked
from pipeline.running import stage
from scenegen.params import SENSORS
from tests.conftest import ROOT, run

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())


PIPELINES = [ROOT / "dvc.yaml", *sorted(ROOT.glob("studies/*/dvc.yaml"))]
WAITING = [
    pytest.param(path, name, id=f"{path.parent.name}-{name}")
    for path in PIPELINES
    for name in YAML(typ="safe").load(path.read_text())["stages"]
]


@pytest.mark.parametrize(("path", "name"), WAITING)
def test_a_stage_waits_for_the_check_of_its_own_code(path: Path, name: str) -> None:
    """The check itself reads all code there is; no other stage names a file of code."""
    stages = YAML(typ="safe").load(path.read_text())["stages"]
    (checked,) = (next(iter(out)) for out in stages["check"]["outs"])
    deps = stages[name]["deps"]
    assert stages[name]["desc"]
    if name != "check":
        assert f"{checked}/code/{name}" in deps
        assert not [dep for dep in deps if dep.endswith(".py")]
        return
    read = {str(file) for dep in deps for file in ([dep, *(ROOT / dep).rglob("*.py")])}
    module = stages[name]["cmd"].split()[2]
    for words in [body["cmd"].split() for body in stages.values()]:
        for one in code.deciding(words[2], study=code.study_of(words)):
            assert str(code._file(one, ROOT)) in {str(ROOT / file) for file in read}, one
    assert module.endswith("check")


def leaves(value: Any, key: str) -> Iterator[str]:
    """The keys below `key` that hold no mapping."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}")
    else:
        yield key.removeprefix(".")


def test_every_param_reaches_a_stage() -> None:
    """A param that no stage lists, alone or in a group, changes nothing."""
    listed = {
        key.replace("${item.modality}", modality)
        for stage in STAGES.values()
        for key in stage.get("params", [])
        for modality in SENSORS
    }
    # `check` writes a detector's settings there; tests/pipeline/test_sensor.py has which.
    assert "data/checked/detectors/${item.modality}" in STAGES["train_detector"]["deps"]
    listed |= {"detector.default", *(f"detector.{modality}" for modality in SENSORS)}
    for key in leaves(PARAMS, ""):
        parts = key.split(".")
        groups = {".".join(parts[: n + 1]) for n in range(len(parts))}
        assert groups & (listed | {"grid.cells"}), key


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
JUDGED = {
    f"{stage}@{cell}-0"
    for stage in ("score", "score_faults")
    for cell in ("moe-none", "poe-none", "poe-ecg")
}
CHANGES = [
    ("scenes.objects.count", [1, 1], {"render"}),
    ("vae.training.learning_rate", 0.0007, TRAININGS),
    ("detector.radar.epochs", 7, {"train_detector@radar", "score_unimodal@radar-0", *JUDGED}),
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


def edited(project: Path, file: str, old: str, new: str) -> set[str]:
    """What is stale once `old` in a file has become `new`."""
    path = project / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return stale(project)


SCORED = {"score", "score_faults"}
EDITS = [
    ("models/fusions/poe.py", '"""Product', '"""The product', set()),
    ("models/training.py", "# Numbers stay", "# They stay", set()),
    ("base/process.py", "nothing is lost", "all is kept", set()),
    ("pipeline/running/stage.py", "already running", "still running", set()),
    ("scenegen/sensors/radar.py", '"""A bird', '"""The bird', set()),
    ("models/fusions/poe.py", "experts.total(1 / experts.var)", "experts.total(2 / experts.var)",
     {"train_vae@poe-none-0", "train_vae@poe-ecg-0"}),
    ("models/objectives/ecg.py", "static=True", "static=False", {"train_vae@poe-ecg-0"}),
    ("models/fusions/moe.py", "1.0)", "2.0)", {"train_vae@moe-none-0"}),
    ("scenegen/sensors/radar.py", "SPLIT = 4", "SPLIT = 5", {"render"}),
    ("studies/shapes3d/page.py", "import math", "import json, math", {"report"}),
    ("studies/cub/page.py", "import io", "import io, json", set()),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "expected"), EDITS)
def test_an_edit_makes_stale_what_its_code_decides_and_nothing_else(
    project: Path, file: str, old: str, new: str, expected: set[str]
) -> None:
    found = edited(project, file, old, new)
    trained = {name.split("@")[1] for name in expected if name.startswith("train_vae")}
    assert found == expected | {f"{stage}@{run}" for stage in SCORED for run in trained} | (
        {"train_unimodal@image-0", "train_unimodal@depth-0", "train_unimodal@radar-0",
         "score_unimodal@image-0", "score_unimodal@depth-0", "score_unimodal@radar-0"}
        if "poe-none-0" in trained else set()
    )  # fmt: skip


def test_a_kind_of_detector_makes_stale_what_it_trains_and_judges(project: Path) -> None:
    kinds = ("yolov3", "yolov3-tiny")
    section = YAML(typ="safe").load((project / "params.yaml").read_text())["detector"]
    network = {m: Detectors.model_validate(section).of(m).network for m in SENSORS}
    assert set(network.values()) <= set(kinds)
    judged = {*JUDGED, *(f"score_unimodal@{modality}-0" for modality in SENSORS)}
    used = {m for m in SENSORS if network[m] == "yolov3-tiny"}
    tiny = edited(
        project, "detector/kinds/yolov3_tiny.py", "class Network", "ONE = 1\n\nclass Network"
    )
    assert tiny == (judged if used else set()) | {f"train_detector@{m}" for m in used}
    both = edited(project, "detector/kinds/yolov3.py", "box=7.5", "box=7.6")
    assert both == judged | {f"train_detector@{m}" for m in SENSORS}


def test_another_kind_makes_stale_what_it_is_to_judge(project: Path) -> None:
    """A new file does not, nor one that no detector uses; its name in params.yaml does."""
    tiny = "from detector.kinds.yolov3_tiny import Network\n"
    (project / "detector/kinds/mine.py").write_text(tiny)
    assert stale(project) == set()
    change(project, "detector.radar.network", "mine")
    new = stale(project)
    assert {"train_detector@radar", "score_unimodal@radar-0", "score@poe-none-0"} <= new
    assert not {"train_detector@image", "score_unimodal@image-0", "train_vae@poe-none-0"} & new


def test_a_fusion_stands_on_a_helper_of_its_own(project: Path) -> None:
    (project / "models/helper.py").write_text("HALF = 0.5\n")
    with open(project / "models/fusions/moe.py", "a") as file:
        file.write("from models import helper\n")
    run(project, "dvc", "repro", "check")
    before = (project / "data/checked/cells/moe-none").read_bytes()
    edited(project, "models/helper.py", "0.5", "0.25")
    assert (project / "data/checked/cells/moe-none").read_bytes() != before


@pytest.mark.slow
def test_rendering_knows_no_torch_and_training_no_blender() -> None:
    for module, foreign in (
        ("render", "torch"),
        ("train_vae", "bpy"),
        ("score", "bpy"),
        ("report", "torch"),
    ):
        code = f"import sys, pipeline.stages.{module}; sys.exit({foreign!r} in sys.modules)"
        assert run(ROOT, "python", "-c", code, check=False).returncode == 0, module


def test_a_stage_whose_code_was_edited_since_the_check_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    script = SimpleNamespace(__spec__=SimpleNamespace(name="pipeline.stages.summary"))
    monkeypatch.setitem(sys.modules, "__main__", script)  # type: ignore[arg-type]
    monkeypatch.setenv("DVC_STAGE", "summary")
    (tmp_path / "data/checked/code").mkdir(parents=True)
    checked = tmp_path / "data/checked/code/summary"
    checked.write_text(f"{code.digest('pipeline.stages.summary')}\n")
    with stage.running("summary", str):
        pass
    checked.write_text(f"{'0' * 64}\n")
    with pytest.raises(SystemExit, match="2"), stage.running("summary", str):
        raise AssertionError("ran")
    assert capsys.readouterr().err.startswith("summary: its code was edited after `check`")
    monkeypatch.delenv("DVC_STAGE")  # by hand: nothing is recorded
    with stage.running("summary", str):
        pass


@pytest.mark.slow
def test_a_check_puts_right_whatever_is_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    folder, cells = tmp_path / "checked", {"a": Cell()}

    def found() -> dict[str, bytes]:
        write_checked(folder, checked(Path("dvc.yaml"), cells))
        files = [path for path in folder.rglob("*") if not path.is_dir()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    folder.write_text("a file")
    right = found()
    assert {"code/score", "cells/a"} <= set(right)
    (folder / "code/score").unlink()
    (folder / "code/score/deep").mkdir(parents=True)
    (folder / "code/score/deep/x").write_text("")
    (folder / "code/render").write_text("edited")
    (folder / "cells/leads").symlink_to(tmp_path / "nowhere")
    assert found() == right


@pytest.mark.slow
def test_a_check_without_room_is_one_line(tmp_path: Path) -> None:
    """A folder that cannot be made stands for the disk that is full."""
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / "data").write_text("")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = run(
        tmp_path, sys.executable, "-m", "pipeline.stages.check", check=False, PYTHONPATH=path
    )
    assert done.returncode == 2
    (told,) = done.stderr.splitlines()
    assert told.startswith("check: data/checked")
    assert "Not a directory; what is finished is kept" in told
