"""The only file that knows Blender. One Cycles render of a SceneSpec gives RGB, depth and index.

Light is chosen so that few samples suffice: one sharp sun, and an ambient term that is emission of
the surfaces themselves (albedo x ambient x (0.6 + 0.4 Nz)), so nothing bounces and nothing but
shadow edges and outlines is noisy. The backdrop glows as evenly as the sun and the ambient light
would make it, and so needs no shadow rays; no shadow falls on it. All objects exist from the
start; a scene only moves, scales, recolours and hides them, which keeps memory flat and the
scene's cost low.

Blender releases differ here in two places: the name of the index pass (`_INDEX_NAMES`), and whether
a material has to be told to use nodes (`_new_material`). 4.5 LTS and 5.0 work.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scenegen.camera import camera_to_world
from scenegen.frame import Passes
from scenegen.geometry import centre_height
from scenegen.meshes import SOLIDS, plane
from scenegen.params import SceneParams
from scenegen.scene import LightSpec, ObjectSpec, SceneSpec

__all__ = ["BlenderError", "Renderer", "blender_version", "explain_import_error"]

_INDEX_NAMES = ("Object Index", "IndexOB")  # from 5.0, and before
AMBIENT_BASE = 0.6  # ambient light from the side; 1 from above, 0.2 from below
# All pixels use one pattern of samples: this seed was the best of 260 for 5 samples and is good for
# most other numbers. Where its samples are not centred within 0.03 pixel, which shifts the picture
# against depth, another seed is, the cleanest of 40; for two and three samples none is (None).
_PATTERN = 204
_PATTERNS = {2: None, 3: None, 4: 256, 6: 82, 7: 1100, 9: 641, 15: 186}
_RAYS = ("diffuse", "glossy", "transmission", "volume_scatter")
_LIBRARY_PACKAGES = {
    "libXrender.so.1": "libxrender1",
    "libXxf86vm.so.1": "libxxf86vm1",
    "libXfixes.so.3": "libxfixes3",
    "libXi.so.6": "libxi6",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libX11.so.6": "libx11-6",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libgomp.so.1": "libgomp1",
}


class BlenderError(RuntimeError):
    """Blender is missing, lacks a library, or rendered nothing."""


def _import_bpy() -> Any:
    if "bpy" not in sys.modules:
        # A spawned process inherits sys.path; where its parent has Blender loaded, that holds
        # Blender's own folders, and in them an inner package that is also called bpy.
        sys.path[:] = [p for p in sys.path if not _in_blender(p)]
    try:
        import bpy
    except ImportError as error:
        raise BlenderError(explain_import_error(str(error))) from None
    return bpy


def _in_blender(path: str) -> bool:
    """Whether a folder is Blender's own: within the installed package bpy."""
    try:
        package = importlib.metadata.distribution("bpy").locate_file("bpy")
    except importlib.metadata.PackageNotFoundError:
        return False
    return Path(path).resolve().is_relative_to(Path(str(package)).resolve())


def explain_import_error(message: str) -> str:
    """One line that says what to install when `import bpy` fails with this message."""
    library = re.search(r"(lib[\w.+-]+\.so[.\d]*)", message)
    if library is None:
        return f"Blender does not load ({message}); install it with: pip install bpy==5.0.1"
    name = library.group(1)
    package = _LIBRARY_PACKAGES.get(name, f"the package that holds {name}")
    return f"Blender lacks the shared library {name}; install it with: apt-get install {package}"


def blender_version() -> str:
    """The release that renders, such as `5.0.1`."""
    return ".".join(str(part) for part in _import_bpy().app.version)


class Renderer:
    """One Blender scene, prepared for these params, which renders SceneSpecs one after another.

    Blender keeps its state per process: one Renderer at a time, and a new one resets the last.
    """

    def __init__(self, params: SceneParams, threads: int = 1) -> None:
        self._bpy = _import_bpy()
        self._params = params
        with _quiet():
            self._bpy.ops.wm.read_factory_settings(use_empty=True)
            self._scene = self._bpy.context.scene
            self._set_up_cycles(threads)
            self._set_up_world()
        self._capture = _Capture(params.image.width, params.image.height)

    def render(self, spec: SceneSpec) -> Passes:
        """Render one scene.

        Raises:
            BlenderError: Blender gave no picture, or the scene has more objects than the params, or
                a kind that they lack.
        """
        if len(spec.objects) > len(self._slots):
            raise BlenderError(
                f"scene {spec.number} has {len(spec.objects)} objects; "
                f"prepared for {len(self._slots)}"
            )
        if unknown := {thing.kind for thing in spec.objects} - set(self._params.objects.classes):
            raise BlenderError(
                f"scene {spec.number} has a {min(unknown)}; objects.classes is "
                f"{list(self._params.objects.classes)}"
            )
        self._apply(spec)
        with _quiet(), self._capture:
            self._bpy.ops.render.render()
        if self._capture.error is not None or not self._capture.complete:
            raise BlenderError(
                f"scene {spec.number}: Blender gave no picture {self._capture.error}"
            )
        return self._capture.passes()

    def _set_up_cycles(self, threads: int) -> None:
        image, render = self._params.image, self._scene.render
        render.engine = "CYCLES"
        cycles = self._scene.cycles
        cycles.device = "CPU"
        cycles.samples = image.samples
        # Light adds no noise here, so a pixel is as good as where its samples lie.
        cycles.sampling_pattern = "TABULATED_SOBOL"
        pattern = _PATTERNS.get(image.samples, _PATTERN)
        cycles.scrambling_distance = 1.0 if pattern is None else 0.0  # each pixel its own, or one
        cycles.seed = pattern or 0
        cycles.use_light_tree = False  # one lamp: a tree only costs (a seventh of the render)
        cycles.use_adaptive_sampling = False
        cycles.use_denoising = False
        cycles.max_bounces = 0
        cycles.pixel_filter_type = "BOX"
        render.use_persistent_data = True
        render.threads_mode = "FIXED"
        render.threads = threads
        render.resolution_x, render.resolution_y = image.width, image.height
        render.resolution_percentage = 100
        render.use_compositing = render.use_sequencer = False
        layer = self._scene.view_layers[0]
        layer.use_pass_z = layer.use_pass_object_index = True

    def _set_up_world(self) -> None:
        bpy = self._bpy
        world = bpy.data.worlds.new("world")
        self._scene.world = world
        for ray in ("diffuse", "glossy", "transmission", "scatter"):
            setattr(world.cycles_visibility, ray, False)
        self._material = _new_material(bpy)
        self._ambient = self._material.node_tree.nodes["ambient"]
        camera = bpy.data.cameras.new("camera")
        camera.clip_start, camera.clip_end = 0.01, 1e5
        self._camera = self._link("camera", camera)
        self._scene.camera = self._camera
        sun = bpy.data.lights.new("sun", "SUN")
        sun.angle = 0.0
        self._sun = self._link("sun", sun)
        self._floor = self._solid("floor", _mesh(bpy, "floor", *plane()))
        wall = _mesh(bpy, "backdrop", *plane())
        glow = _new_material(bpy, lit=False)
        self._glow = glow.node_tree.nodes["ambient"]
        wall.materials.append(glow)
        self._backdrop = self._solid("backdrop", wall)
        self._backdrop.rotation_euler = (math.pi / 2.0, 0.0, 0.0)
        self._backdrop.visible_shadow = False  # a sun behind this endless wall would light nothing
        meshes = {c: _mesh(bpy, c, *SOLIDS[c]()) for c in self._params.objects.classes}
        self._slots = [
            {c: self._solid(f"{c} {i}", m) for c, m in meshes.items()}
            for i in range(self._params.objects.count[1])
        ]
        for i, slot in enumerate(self._slots):
            for solid in slot.values():
                solid.pass_index = i + 1

    def _link(self, name: str, data: Any) -> Any:
        thing = self._bpy.data.objects.new(name, data)
        self._scene.collection.objects.link(thing)
        return thing

    def _solid(self, name: str, mesh: Any) -> Any:
        """An object that shares its mesh and the one material; its own colour is all it has."""
        thing = self._link(name, mesh)
        if not mesh.materials:
            mesh.materials.append(self._material)
        for ray in _RAYS:
            setattr(thing, f"visible_{ray}", False)
        return thing

    def _apply(self, spec: SceneSpec) -> None:
        """Bring the prepared objects into the state that the spec describes."""
        from mathutils import Matrix, Vector

        pose = camera_to_world(spec.camera) @ np.diag([1.0, -1.0, -1.0, 1.0])  # Blender looks to -z
        self._camera.matrix_world = Matrix(pose.tolist())
        self._camera.data.sensor_fit = "HORIZONTAL"
        self._camera.data.angle = math.radians(spec.camera.field_of_view)
        self._sun.rotation_euler = Vector(spec.light.towards).to_track_quat("Z", "Y").to_euler()
        self._sun.data.energy = spec.light.sun
        self._ambient.outputs[0].default_value = spec.light.ambient
        self._glow.outputs[0].default_value = _wall_glow(spec.light)
        self._floor.color = _linear(spec.floor_hsv)
        self._backdrop.color = _linear(spec.backdrop_hsv)
        self._backdrop.location = (0.0, spec.backdrop_distance, 0.0)
        for place, slot in enumerate(self._slots):
            wanted = spec.objects[place] if place < len(spec.objects) else None
            for kind, solid in slot.items():
                solid.hide_render = wanted is None or kind != wanted.kind
                if wanted is not None and kind == wanted.kind:
                    _place(solid, wanted)


def _wall_glow(light: LightSpec) -> float:
    """What sun and ambient light add up to on the side of the wall that the camera sees."""
    facing = max(-light.towards[1], 0.0)
    return light.ambient * AMBIENT_BASE + light.sun * facing / math.pi


def _place(solid: Any, spec: ObjectSpec) -> None:
    solid.location = (spec.x, spec.y, spec.scale * centre_height(spec.kind))
    solid.scale = (spec.scale,) * 3
    solid.rotation_euler = (0.0, 0.0, math.radians(spec.yaw))
    solid.color = _linear(spec.hsv)


class _Capture:
    """Reads the passes inside Cycles' own callback, the one moment when they are in memory.

    `bpy.ops.render.render` keeps no result that Python could read in background mode; the detour
    over a multilayer EXR gives identical numbers and takes longer.
    """

    def __init__(self, width: int, height: int) -> None:
        self._shape = (height, width)
        n = width * height
        self._buffers = {
            "Combined": np.empty(4 * n, np.float32),
            "Depth": np.empty(n, np.float32),
            "Index": np.empty(n, np.float32),
        }
        self._read: set[str] = set()
        self.error: Exception | None = None

    @property
    def complete(self) -> bool:
        """Whether every pass of the last render has been read."""
        return self._read == set(self._buffers)

    def __enter__(self) -> _Capture:
        import cycles

        self._engine, self._original = cycles.CyclesRender, cycles.CyclesRender.render
        self._read.clear()
        self.error = None

        def render(engine: Any, depsgraph: Any) -> None:
            self._original(engine, depsgraph)
            try:
                self._take(engine.get_result().layers[0].passes)
            except Exception as error:  # Blender would print and forget it
                self.error = error

        self._engine.render = render
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.render = self._original

    def _take(self, passes: Any) -> None:
        for one in passes:
            name = "Index" if one.name in _INDEX_NAMES else one.name
            if name in self._buffers:
                one.rect.foreach_get(self._buffers[name])
                self._read.add(name)

    def passes(self) -> Passes:
        """The last render with its rows turned to run from the top."""
        rgb = self._buffers["Combined"].reshape(*self._shape, 4)[::-1, :, :3]
        depth = self._buffers["Depth"].reshape(self._shape)[::-1]
        index = self._buffers["Index"].reshape(self._shape)[::-1]
        return Passes(rgb.copy(), depth.copy(), index.astype(np.uint8))


def _new_material(bpy: Any, lit: bool = True) -> Any:
    """Diffuse plus emission, both in the object's own colour; without `lit` an even glow."""
    material = bpy.data.materials.new("surface")
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    material.cycles.emission_sampling = "NONE"
    tree = material.node_tree
    tree.nodes.clear()

    def node(kind: str, name: str = "") -> Any:
        made = tree.nodes.new(f"ShaderNode{kind}")
        made.name = name or kind
        return made

    colour, ambient, emission = node("ObjectInfo"), node("Value", "ambient"), node("Emission")
    out = node("OutputMaterial").inputs["Surface"]
    tree.links.new(colour.outputs["Color"], emission.inputs["Color"])
    if not lit:
        tree.links.new(ambient.outputs[0], emission.inputs["Strength"])
        tree.links.new(emission.outputs[0], out)
        return material
    normal, split, hemisphere = node("NewGeometry"), node("SeparateXYZ"), node("Math")
    strength, diffuse, both = node("Math"), node("BsdfDiffuse"), node("AddShader")
    hemisphere.operation, strength.operation = "MULTIPLY_ADD", "MULTIPLY"
    hemisphere.inputs[1].default_value = 1.0 - AMBIENT_BASE
    hemisphere.inputs[2].default_value = AMBIENT_BASE
    for source, sink in [
        (colour.outputs["Color"], diffuse.inputs["Color"]),
        (normal.outputs["Normal"], split.inputs[0]),
        (split.outputs["Z"], hemisphere.inputs[0]),
        (hemisphere.outputs[0], strength.inputs[0]),
        (ambient.outputs[0], strength.inputs[1]),
        (strength.outputs[0], emission.inputs["Strength"]),
        (diffuse.outputs[0], both.inputs[0]),
        (emission.outputs[0], both.inputs[1]),
        (both.outputs[0], out),
    ]:
        tree.links.new(source, sink)
    return material


def _mesh(bpy: Any, name: str, vertices: Any, faces: Any, smooth: Any) -> Any:
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(vertices.tolist(), [], faces)
    for polygon in mesh.polygons:
        polygon.use_smooth = smooth(polygon) if callable(smooth) else smooth
    mesh.update()
    return mesh


def _linear(hsv: tuple[float, float, float]) -> tuple[float, float, float, float]:
    """HSV of a display colour to the linear light that Blender computes with, with alpha 1."""
    import colorsys

    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in colorsys.hsv_to_rgb(*hsv)
    )
    return red, green, blue, 1.0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Blender's C code from printing a line per frame to standard output."""
    sys.stdout.flush()
    kept, sink = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(sink)
