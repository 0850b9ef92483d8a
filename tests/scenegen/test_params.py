"""Bad params are refused with one line that names the key, before Blender is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scenegen.params import SceneParams

BAD = [
    ("count=-1", "count"),
    ("count=2.5", "count"),
    ("seed=-3", "seed"),
    ("shard_size=0", "shard_size"),
    ("sceens=3", "sceens"),
    ("objects.count=[0,2]", "objects.count"),
    ("objects.count=[3,1]", "objects.count"),
    ("objects.count=[1,9]", "at most"),
    ('objects.classes=["cone"]', "objects.classes"),
    ("objects.classes=[]", "at least one shape"),
    ('objects.classes=["cube","cube"]', "twice"),
    ("objects.scale=[0,1]", "objects.scale"),
    ("objects.scale=[2,1]", "reversed"),
    ("objects.scale=[NaN,1]", "objects.scale"),
    ("objects.hue=[0,1.5]", "objects.hue"),
    ("objects.saturation=2", "objects.saturation"),
    ("objects.value=0", "objects.value"),
    ("floor.hue=[-0.1,0.5]", "floor.hue"),
    ("backdrop.value=1.1", "backdrop.value"),
    ("backdrop.distance=1", "backdrop.distance"),
    ("camera.height=[-1,2]", "inside the floor"),
    ("camera.distance=[1,2]", "inside an object"),
    ("camera.field_of_view=0", "camera.field_of_view"),
    (
        "camera.azimuth=[180,180]",
        "behind the backdrop; allowed here: within 141.2 degrees either way",
    ),
    ("camera.azimuth=[-150,0]", "behind the backdrop"),
    ("light.elevation=[0,40]", "light.elevation"),
    ('light={"sun":[0,1],"ambient":0}', "black"),
    ("image.samples=0", "image.samples"),
    ('image.width="wide"', "image.width"),
    ("depth.far=4", "far"),
    ("radar.span=0", "radar.span"),
    ("radar.reach=[5,5]", "empty"),
    ("radar.ground=-1", "radar.ground"),
    ("radar.ground=0.0001", "radar.ground: 0.0001 is less than a step of depth"),
    ("boxes.min_pixels=0", "boxes.min_pixels"),
]


@pytest.mark.parametrize(("change", "said"), BAD, ids=[b[0] for b in BAD])
def test_bad_params_end_in_one_line(
    change: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from scenegen.__main__ import main

    assert main(["show", "--set", change]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert lines[0].startswith(change.split("=")[0].split(".")[0])  # the key, as it is typed


def test_bad_params_do_not_wait_for_blender() -> None:
    code = (
        "import sys; from scenegen.__main__ import main;"
        "code = main(['render', 'nowhere', '--set', 'count=0']);"
        "sys.exit(10 * ('bpy' in sys.modules) + code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1


def test_params_survive_json() -> None:
    params = SceneParams(count=7)
    assert SceneParams.model_validate_json(params.model_dump_json()) == params
