"""Params under which a sensor shows no object are refused, by what it would show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scenegen.__main__ import main
from scenegen.params import SceneParams
from scenegen.sight import blind_sensor

LARGE = {"width": 1024, "height": 1024}
BLIND = [
    ("radar.reach=[0,1]", "radar.reach: from 0 to 1 m the radar"),
    ("radar.span=0.001", "radar.span: in 0.001 m the radar"),
    ("radar.ground=10", "radar.ground: above 10 m the radar"),
    ("objects.scale=[0.05,0.05]", "boxes.min_pixels: with 12 the camera"),
    ('objects={"count":[1,1],"scale":[0.1,0.1]}', "boxes.min_pixels: with 12 the camera"),
    ("depth.near=11.5", "depth.near, depth.far: from 11.5 to 12 m the depth sensor"),
    ("camera.look_height=90", "camera.field_of_view, camera.look_height: the camera"),
]


@pytest.mark.parametrize(("change", "said"), BLIND, ids=[b[0] for b in BLIND])
@pytest.mark.slow
def test_a_blind_sensor_ends_a_render_before_it_begins(
    change: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    assert main(["render", str(folder), "--set", "count=1", "--set", change]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)
    assert "shows no object in 50 sampled scenes" in line
    assert not folder.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"image": LARGE, "radar": LARGE},
        {"image": LARGE, "objects": {"scale": [0.05, 0.05]}},
        {"image": {"width": 24, "height": 24}},
        {"radar": {"full_echo": 10.0}},
        {"depth": {"near": 0.0, "far": 1000.0}},
        {"camera": {"azimuth": [-140.0, 140.0]}},
        # Most objects are out of sight, or out of the radar's.
        {
            "objects": {"area_x": [-60.0, 60.0]},
            "camera": {"distance": [70.0, 71.0], "field_of_view": 10.0},
        }
        | {"depth": {"near": 1.0, "far": 200.0}, "radar": {"reach": [50.0, 90.0]}},
        {"radar": {"reach": [9.0, 11.5]}},
    ],
)
def test_sensors_that_show_some_object_are_let_be(changes: dict[str, Any]) -> None:
    assert blind_sensor(SceneParams.model_validate(changes)) is None
