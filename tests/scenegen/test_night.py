"""Night: the camera's noise is what its formula says, and nothing but the picture knows of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from scenegen import sensors
from scenegen.generate import render_dataset
from scenegen.night import read_out
from scenegen.params import NightParams, SceneParams
from scenegen.scene import SceneSpec, sample_scene
from scenegen.worker import prepared_renderer, render_scenes
from tests.scenegen.conftest import tiny

CLEAR = {"share": 1.0, "light": 0.02, "gain": 15.0}  # no value of the wall is clipped
DRAWS = 400_000


def dark(night: dict[str, float], **changes: Any) -> SceneParams:
    return tiny(light={"night": night}, **changes)


def records(params: SceneParams, count: int = 6) -> NDArray[np.void]:
    return render_scenes(params, 0, count)[1]


def linear(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """sRGB back to linear light."""
    stored = picture / 255.0
    return np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("electrons", [0.5, 10.0, 400.0])
@pytest.mark.parametrize(("gain", "read_noise"), [(1.0, 0.0), (60.0, 3.0)])
def test_shot_and_read_noise_have_the_variance_of_the_formula(
    electrons: float, gain: float, read_noise: float
) -> None:
    """Within five of the standard errors of both, of a sum of Poisson's and a Gaussian."""
    night = NightParams(gain=gain, full_well=1000.0, read_noise=read_noise)
    light = np.full(DRAWS, electrons / 1000.0)
    values = read_out(light, night, np.random.default_rng(0))
    unit = gain / 1000.0  # a value for each electron
    variance = electrons + read_noise**2  # of electrons; v / W + (r / W)^2, times W^2
    assert abs(values.mean() - gain * light[0]) < 5 * unit * math.sqrt(variance / DRAWS)
    error = math.sqrt((electrons + 2 * variance**2) / DRAWS)  # fourth moment less variance^2
    assert abs(values.var() / unit**2 - variance) < 5 * error


def test_a_full_pixel_holds_no_more() -> None:
    night = NightParams(gain=1.0, full_well=100.0, read_noise=0.0)
    values = read_out(np.array([0.5, 1.0, 7.0]).repeat(1000), night, np.random.default_rng(0))
    half, white, more = values.reshape(3, 1000)
    assert white.max() == more.max() == 1.0
    assert 0.45 < half.mean() < 0.55
    assert 0.94 < more.mean() < 1.0  # as white: shot noise below full, nothing above


def test_pictures_by_night_have_the_formulas_mean_and_variance() -> None:
    """Of the wall, which glows evenly: 8 bits back to linear light, against the render by day."""
    params = dark(CLEAR, image={"width": 48, "height": 48, "samples": 1})
    night, renderer, scaled = params.light.night, prepared_renderer(params), []
    for record in records(params, 25):
        rgb = renderer.render(sample_scene(params, int(record["scene"]))).rgb[:10]
        wall = record["index"][:10] == 0
        assert np.ptp(rgb[wall], axis=0).max() < 1e-6
        light = night.light * rgb[wall].astype(float)
        variance = night.gain**2 * (
            light / night.full_well + (night.read_noise / night.full_well) ** 2
        )
        read = linear(record["image"][:10][wall])
        scaled.append(((read - night.gain * light) / np.sqrt(variance)).ravel())
    values = np.concatenate(scaled)
    assert abs(values.mean()) < 0.02
    assert values.var() == pytest.approx(1.0, abs=0.03)  # the steps of 8 bits add 1 %


def test_nothing_but_pictures_changes_by_night() -> None:
    every = {"sensors": list(sensors.names())}
    day, night = records(tiny(**every)), records(dark(CLEAR, **every))
    for field in day.dtype.names or ():
        same = np.array_equal(day[field], night[field])
        assert same == (field not in ("image", "side", "light")), field
    assert night["light"][:, 3:] == pytest.approx(0.02 * day["light"][:, 3:])


def test_scenes_by_day_and_what_is_in_those_by_night_are_as_without_nights() -> None:
    plain, mixed = tiny(count=400), dark(CLEAR | {"share": 0.3}, count=400)
    specs = [(sample_scene(plain, k), sample_scene(mixed, k)) for k in range(400)]
    nights = [after.light.left is not None for _, after in specs]
    assert abs(sum(nights) - 120) < 5 * math.sqrt(400 * 0.3 * 0.7)
    assert all(before.objects == after.objects for before, after in specs)
    assert all((a == b) != night for (a, b), night in zip(specs, nights, strict=True))
    day, both = records(plain, 12), records(mixed, 12)
    same = [a.tobytes() == b.tobytes() for a, b in zip(day, both, strict=True)]
    assert [not one for one in same] == nights[:12]
    assert 0 < sum(same) < 12


def test_noise_is_of_the_scene_and_the_view_alone() -> None:
    """The second camera stands where the first does: the same picture by day, other noise."""
    of = {"sensors": ["image", "radar", "side"], "side": {"azimuth": 0.0}}
    params = dark(CLEAR, **of)
    together = records(params)
    alone = np.concatenate([render_scenes(params, k, 1)[1] for k in reversed(range(6))])[::-1]
    assert together.tobytes() == alone.tobytes()
    day = records(tiny(**of))
    assert np.array_equal(day["image"], day["side"])
    share = CLEAR["light"] * CLEAR["gain"]  # what is read of the light by day
    noise = np.concatenate(
        [linear(together[v]) - share * linear(day[v]) for v in ("image", "side")]
    ).reshape(12, -1)
    apart = np.corrcoef(noise)[~np.eye(12, dtype=bool)]
    assert np.abs(apart).max() < 5 / math.sqrt(noise.shape[1])
    other = records(dark(CLEAR, **of, seed=1))
    assert not np.array_equal(other["image"], together["image"])


@pytest.mark.slow
def test_two_workers_give_the_bytes_of_one_by_night(tmp_path: Path) -> None:
    params = dark(CLEAR | {"share": 0.5})
    hashes = {
        render_dataset(params, tmp_path / str(n), workers=n, progress=False).sha256 for n in (1, 2)
    }
    assert len(hashes) == 1


def test_a_spec_of_before_there_was_night_is_by_day() -> None:
    data = sample_scene(tiny(), 0).to_dict()
    assert data["light"].pop("left") is None
    assert SceneSpec.from_dict(data) == sample_scene(tiny(), 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [("share", 1.1), ("light", 0.0), ("gain", 0.5), ("full_well", 0.0), ("read_noise", -1.0)],
)
def test_a_night_that_cannot_be_is_refused(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"light.night.{key}"):
        dark({key: value})
