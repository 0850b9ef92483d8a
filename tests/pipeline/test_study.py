"""Where a study's files lie, and what it is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from base import code
from pipeline.run import Run
from pipeline.study import ROOT, STUDIES
from tests.conftest import OTHERS
from tests.conftest import ROOT as PROJECT


def test_a_study_is_a_folder_found_by_its_name() -> None:
    assert {"cub", "mnist_svhn", ROOT.name} == set(STUDIES)
    assert set(STUDIES) - set(OTHERS) == {ROOT.name}


@pytest.mark.parametrize("name", STUDIES)
def test_its_definition_and_params_are_there_and_name_its_modalities(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    study = STUDIES[name]
    assert study.definition.is_file()
    assert len(study.modalities) > 1
    assert study.alone(Run(study.modalities[0], 0))
    assert not study.alone(Run("poe-ecg", 0))


def test_the_roots_files_lie_where_dvc_yaml_says() -> None:
    paths = (ROOT.params, ROOT.results, ROOT.data, ROOT.checked, ROOT.checkpoints)
    found = ["params.yaml", "results", "data", "data/checked", ".cache/checkpoints"]
    assert [str(path) for path in paths] == found
    assert ROOT.again == "dvc repro"


@pytest.mark.parametrize("kind", ["params", "results", "data", "checkpoints", "again", "scope"])
def test_no_study_writes_where_another_does(kind: str) -> None:
    paths = [getattr(study, kind) for study in STUDIES.values()]
    assert len(set(paths)) == len(paths)
    assert Path("data/studies/cub") == STUDIES["cub"].data


@pytest.mark.parametrize("name", STUDIES)
def test_a_stage_is_decided_by_its_own_studys_modules_alone(name: str) -> None:
    """Of each stage script: what it takes of the study is there, and is of this study."""
    for stage, parts in (
        ("train_vae", {"loader"}),
        ("score", {"judge"}),
        ("report", {"page", "paper"}),
    ):
        decides = code.deciding(f"pipeline.stages.{stage}", study=name)
        assert {f"studies.{name}.{part}" for part in parts} <= set(decides)
        of_others = [one for other in STUDIES if other != name for one in decides
                     if one.startswith(f"studies.{other}.")]  # fmt: skip
        assert of_others == []
