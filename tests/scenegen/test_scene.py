"""Sampling: scene k follows from (seed, k) alone, within the params, without overlaps."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scenegen
from scenegen.camera import camera_to_world, floor_axes
from scenegen.params import WIDEST_RADIUS, SceneParams
from scenegen.scene import SceneSpec, sample_scene

PACKAGE = Path(scenegen.__file__).parent
MANY = SceneParams.model_validate(
    {"objects": {"count": [1, 4], "scale": [0.4, 0.6]}, "camera": {"distance": [7, 8]}}
)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**63 - 1), number=st.integers(0, 2**40))
def test_objects_keep_their_distance_and_ranges(seed: int, number: int) -> None:
    params = MANY.model_copy(update={"seed": seed})
    spec, p = sample_scene(params, number), MANY.objects
    assert p.count[0] <= len(spec.objects) <= p.count[1]
    for i, a in enumerate(spec.objects):
        assert p.area_x[0] <= a.x <= p.area_x[1]
        assert p.area_y[0] <= a.y <= p.area_y[1]
        assert p.scale[0] <= a.scale <= p.scale[1]
        for b in spec.objects[:i]:
            radii = WIDEST_RADIUS[a.kind] * a.scale + WIDEST_RADIUS[b.kind] * b.scale
            assert math.hypot(a.x - b.x, a.y - b.y) >= radii + p.gap - 1e-9
    east, north, up = spec.camera.location
    assert 7 <= math.hypot(east, north) <= 8
    assert 4.6 <= up <= 5
    assert abs(math.degrees(math.atan2(east, -north))) <= 5
    assert 40 <= math.degrees(math.asin(spec.light.towards[2])) <= 65


def test_a_scene_ignores_count_and_order() -> None:
    forward = [sample_scene(MANY, k) for k in range(6)]
    grown = MANY.model_copy(update={"count": 9})
    assert [sample_scene(grown, k) for k in reversed(range(6))] == forward[::-1]
    assert len({str(s.objects) for s in forward}) == 6


@pytest.mark.parametrize("azimuth", [-120.0, -5.0, 0.0, 90.0])
@pytest.mark.parametrize("sun", [0.0, 60.0])
def test_the_sun_stands_where_it_does_for_the_camera(azimuth: float, sun: float) -> None:
    """Straight behind it at 0, to its right at 60."""
    data = {"camera": {"azimuth": [azimuth] * 2}, "light": {"azimuth": [sun] * 2}}
    spec = sample_scene(SceneParams.model_validate(data), 0)
    (right, ahead), towards = floor_axes(camera_to_world(spec.camera)), spec.light.towards
    behind, aside = -ahead @ towards[:2], right @ towards[:2]
    assert math.degrees(math.atan2(aside, behind)) == pytest.approx(sun)


def test_seed_zero_is_a_seed() -> None:
    zero, one = (sample_scene(SceneParams(seed=s), 3).objects for s in (0, 1))
    assert zero == sample_scene(SceneParams(seed=0), 3).objects
    assert zero != one


def test_a_spec_survives_json() -> None:
    spec = sample_scene(MANY, 5)
    assert SceneSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize("bad", [{}, {"number": 1}, [], {"number": 1, "objects": [{"size": 3}]}])
def test_other_data_are_no_spec(bad: Any) -> None:
    with pytest.raises(ValueError, match="do not describe a scene"):
        SceneSpec.from_dict(bad)


def test_negative_scenes_are_refused() -> None:
    with pytest.raises(ValueError, match="scene number -1"):
        sample_scene(MANY, -1)


def test_every_class_and_count_occurs() -> None:
    specs = [sample_scene(SceneParams(), k) for k in range(200)]
    kinds = [o.kind for s in specs for o in s.objects]
    assert min(kinds.count(k) for k in SceneParams().objects.classes) > 40
    assert {len(s.objects) for s in specs} == {1, 2}


# Their last bit depends on the CPU's vector instructions; those of math do not.
VECTORISED = {"sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2", "exp", "log", "power"}


@pytest.mark.parametrize(
    "name", ["blender", "boxes", "camera", "frame", "geometry", "params", "records", "scene"]
)
def test_no_vectorised_function_decides_a_byte(name: str) -> None:
    used = {
        node.attr
        for node in ast.walk(ast.parse((PACKAGE / f"{name}.py").read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "np"
    }
    assert not used & VECTORISED


CLOCK_AND_CHANCE = {"random", "time", "datetime", "secrets", "uuid"}
NEW_GENERATORS = {"default_rng", "SeedSequence", "Generator"}


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda p: p.name)
def test_no_global_random_state_and_no_clock(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not CLOCK_AND_CHANCE & {a.name.split(".")[0] for a in node.names}
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in CLOCK_AND_CHANCE
            assert node.module != "numpy.random"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
            assert node.value.attr != "random" or node.attr in NEW_GENERATORS
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in NEW_GENERATORS:
            assert node.args, "an unseeded generator"
