"""Mutants of the scene generator."""

from __future__ import annotations

from tests.mutants import Mutant

# Without those that render a thousand scenes, or start processes.
TESTS = {
    "*": (
        "tests/scenegen/test_modalities.py",
        "tests/scenegen/test_geometry.py",
        *("-k", "not thousand and not echoes_lie and not number_of_samples"),
    ),
    "dataset.py": (
        "tests/scenegen/test_dataset.py",
        *("-k", "line_up or far_is or read_from_their_shards"),
    ),
    **{
        f"sensors/{name}.py": ("tests/scenegen/test_sensors_exact.py",)
        for name in ("__init__", "lidar", "mask", "normals", "side", "thermal")
    },
    "records.py": (
        "tests/scenegen/test_modalities.py",
        "tests/scenegen/test_sensors_exact.py",
        *("-k", "colours or truncated or as_many or depth_is_stored or second_camera"),
    ),
    "geometry.py": (
        "tests/scenegen/test_modalities.py",
        "tests/scenegen/test_geometry.py",
        "tests/scenegen/test_sensors_exact.py",
        *("-k", "documented or geometry or lidar"),
    ),
    "splits.py": ("tests/scenegen/test_dataset.py", "-k", "splits"),
    "manifest.py": ("tests/scenegen/test_generate.py", "-k", "shards_hashes or all_params"),
    "scene.py": ("tests/scenegen/test_scene.py",),
    "night.py": ("tests/scenegen/test_night.py", "-m", "not slow"),
}

MUTANTS = (
    Mutant(
        "the radar mirrored with its boxes",
        "camera.py",
        "return np.array([ahead[1], -ahead[0]]), ahead",
        "return np.array([-ahead[1], ahead[0]]), ahead",
    ),
    Mutant(
        "boxes one pixel short",
        "boxes.py",
        "float(columns[-1] + 1)",
        "float(columns[-1])",
    ),
    Mutant(
        "boxes half a pixel off as they are read",
        "dataset.py",
        "return [(b[h], ",
        "return [(b[h] + np.float32(0.5), ",
    ),
    Mutant(
        "a shorter capsule",
        "geometry.py",
        "CAPSULE_RADIUS, CAPSULE_HALF = 0.65, 0.65",
        "CAPSULE_RADIUS, CAPSULE_HALF = 0.65, 0.60",
    ),
    Mutant(
        "a smaller cube",
        "geometry.py",
        "CUBE_HALF = 0.8\n",
        "CUBE_HALF = 0.75\n",
    ),
    Mutant(
        "a lower cylinder",
        "geometry.py",
        '{"cylinder": (0.8, 0.95)}',
        '{"cylinder": (0.8, 0.9)}',
    ),
    Mutant(
        "a sphere's mesh smaller than the sphere",
        "meshes.py",
        '"sphere": lambda: _rounded(1.0, 0.0)',
        '"sphere": lambda: _rounded(0.97, 0.0)',
    ),
    Mutant(
        "colours lighter than asked for",
        "blender.py",
        "((c + 0.055) / 1.055) ** 2.4",
        "((c + 0.055) / 1.055) ** 2.2",
    ),
    Mutant(
        "another curve for sRGB",
        "records.py",
        "_linear ** (1 / 2.4)",
        "_linear ** (1 / 2.2)",
    ),
    Mutant(
        "depth rounded down",
        "camera.py",
        "np.rint(np.clip(share, 0.0, 1.0) * DEPTH_STEPS)",
        "np.floor(np.clip(share, 0.0, 1.0) * DEPTH_STEPS)",
    ),
    Mutant(
        "depth for networks rounded down",
        "sensors/depth.py",
        "(stored.astype(np.uint32) + 128) // 257",
        "stored.astype(np.uint32) // 257",
    ),
    Mutant(
        "a right edge truncates nothing",
        "records.py",
        "x0 == 0 or y0 == 0 or x1 == width or y1 == height",
        "x0 == 0 or y0 == 0 or y1 == height",
    ),
    Mutant(
        "a box takes one pixel more than asked for",
        "records.py",
        "if visible < params.boxes.min_pixels:",
        "if visible <= params.boxes.min_pixels:",
    ),
    Mutant(
        "echoes half a cell to the right",
        "sensors/radar.py",
        "_splat(points.column - 0.5, ",
        "_splat(points.column, ",
    ),
    Mutant(
        "full_echo ignored",
        "sensors/radar.py",
        "seen / (radar.full_echo * cell_area)",
        "seen / (0.3 * cell_area)",
    ),
    Mutant(
        "a share of the surface by its distance",
        "sensors/radar.py",
        "(distance / (k[0, 0] * split)) ** 2",
        "distance / (k[0, 0] * split) ** 2",
    ),
    Mutant(
        "the ground twice as thick",
        "sensors/radar.py",
        "kept = up > radar.ground",
        "kept = up > 2 * radar.ground",
    ),
    Mutant(
        "other scenes for the test split",
        "splits.py",
        "numbers % 5 == 4",
        "numbers % 5 == 3",
    ),
    Mutant(
        "other scenes for validation",
        "splits.py",
        "numbers % 20 == 0",
        "numbers % 20 == 1",
    ),
    Mutant(
        "a hash of the first shard alone",
        "manifest.py",
        '"".join(shard.sha256 for shard in shards)',
        '"".join(shard.sha256 for shard in [*shards][:1])',
    ),
    Mutant(
        "shards of another Blender kept",
        "manifest.py",
        '"blender": blender,',
        '"blender": "",',
    ),
    Mutant(
        "the camera as high as it is far",
        "scene.py",
        "_uniform(rng, p.distance), _uniform(rng, p.height)",
        "_uniform(rng, p.distance), _uniform(rng, p.distance)",
    ),
    Mutant(
        "normals that face away",
        "sensors/normals.py",
        "-plane / length",
        "plane / length",
    ),
    Mutant(
        "normals of an orthographic camera",
        "sensors/normals.py",
        "w - a * x[None, :] - b * y[:, None]",
        "w",
    ),
    Mutant(
        "normals of one side alone",
        "sensors/normals.py",
        "slopes(w, limit, seen, axis).mean(axis=0)",
        "slopes(w, limit, seen, axis)[0]",
    ),
    Mutant(
        "a mask of places instead of classes",
        "sensors/mask.py",
        "(1 + CLASSES.index(thing.kind) for thing in frame.objects)",
        "(1 + place for place, _ in enumerate(frame.objects))",
    ),
    Mutant(
        "a lidar that measures depth",
        "sensors/lidar.py",
        "distance, _ = returns(frame, options)",
        "distance = returns(frame, options)[0] * directions(frame.pose, options)[..., 1]",
    ),
    Mutant(
        "a lidar's noise as variance",
        "sensors/lidar.py",
        "distance + options.noise * draws",
        "distance + options.noise**2 * draws",
    ),
    Mutant(
        "a lidar that loses twice as many returns",
        "sensors/lidar.py",
        "< options.dropout",
        "< 2 * options.dropout",
    ),
    Mutant(
        "the lidar's rings upside down",
        "sensors/lidar.py",
        "high - i * (high - low)",
        "low + i * (high - low)",
    ),
    Mutant(
        "the lidar's picture mirrored",
        "sensors/lidar.py",
        "(j - middle) * options.resolution",
        "(middle - j) * options.resolution",
    ),
    Mutant(
        "the lidar's rings on a cylinder, not on cones",
        "sensors/lidar.py",
        "(flat * (forward",
        "(1.0 * (forward",
    ),
    Mutant(
        "the lidar sees through the wall",
        "geometry.py",
        "np.stack([np.minimum(floor, wall), *entries])",
        "np.stack([floor, *entries])",
    ),
    Mutant(
        "temperatures by hue",
        "sensors/thermal.py",
        "temperatures(len(frame.objects), options, draws)[frame.index]",
        "temperatures(len(frame.objects), options, draws)[frame.index] + frame.image[..., 0] / 99",
    ),
    Mutant(
        "one temperature for all objects",
        "sensors/thermal.py",
        "draws.uniform(*options.objects, size=objects)",
        "draws.uniform(*options.objects, size=1).repeat(objects)",
    ),
    Mutant(
        "a blur twice as wide",
        "sensors/thermal.py",
        "-0.5 * (i / deviation) ** 2",
        "-0.125 * (i / deviation) ** 2",
    ),
    Mutant(
        "thermal noise as variance",
        "sensors/thermal.py",
        "degrees + options.noise * draws",
        "degrees + options.noise**2 * draws",
    ),
    Mutant(
        "the second camera turned the other way",
        "sensors/side.py",
        "cos * x - sin * y, sin * x + cos * y",
        "cos * x + sin * y, cos * y - sin * x",
    ),
    Mutant(
        "a night without shot noise",
        "night.py",
        "electrons = draws.poisson(np.clip(light, 0.0, 1.0) * night.full_well)",
        "electrons = np.clip(light, 0.0, 1.0) * night.full_well",
    ),
    Mutant(
        "two cameras have one noise by night",
        "night.py",
        "zlib.crc32(view.encode())",
        "0",
    ),
    Mutant(
        "the second camera's boxes are the first's",
        "records.py",
        "sensor.fill(record, _fill_frame(aside, other, render(other), params, name))",
        "sensor.fill(record, frame)",
    ),
    Mutant(
        "all sensors draw the same in all scenes",
        "sensors/__init__.py",
        "spawn_key=(frame.number, zlib.crc32(self.name.encode()))",
        "spawn_key=(0, zlib.crc32(self.name.encode()))",
    ),
)
