"""A bird's-eye radar picture from a depth map alone, without the stripes of its pixel rows.

Each depth pixel stands for a small patch of surface. Towards each neighbour on the same surface it
follows the line between the two (in inverse depth, which is linear across a plane, so planes come
out exact); towards a jump it continues its own slope. The patch is cut into SPLIT x SPLIT points,
or more where cells are small, and each leaves its share of seen surface, (depth / focal)^2, in the
four nearest cells.
"""

from __future__ import annotations

import functools
import math
from typing import Annotated, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from base.params import Section
from scenegen.camera import floor_axes, half_step, measured, rotated, slopes
from scenegen.frame import Frame
from scenegen.geometry import footprint
from scenegen.params import DepthParams, Pair, SceneParams, within
from scenegen.scene import ObjectSpec
from scenegen.sensors import SAMPLED, Boxes, Seen, Traits

__all__ = [
    "SPLIT",
    "Points",
    "radar_from_depth",
    "radar_picture",
    "radar_points",
    "to_radar_pixels",
]

TRAITS = Traits(letter="R", plane="map")
BLIND = f"the radar shows no object in {SAMPLED} sampled scenes"
SPLIT = 4
PER_CELL = 3.0  # points across a cell that a patch should leave, so that no cell stays empty
MOST_POINTS = 1_000_000  # of all patches of a scene; beyond, a patch is cut into fewer
STEEPEST = 4.0  # a surface steeper than 1:4 to the line of sight counts as a jump
FLOOR = 0.001  # metres of height that Blender's single precision may give the floor, at most
Array = NDArray[np.float64]


class Options(Section):
    """Bird's-eye grid with the camera at the middle of the bottom edge."""

    width: int = Field(default=64, ge=8, le=1024, description="cells across, 8 to 1024")
    height: int = Field(
        default=64, ge=8, le=1024, description="cells away from the camera, 8 to 1024"
    )
    span: float = Field(
        default=8.0, gt=0.0, le=1000.0, description="metres across the grid, above 0"
    )
    reach: Annotated[Pair, within(0.0, 1000.0)] = Field(
        default=(3.5, 11.5),
        description="metres from the camera of the bottom and top edge, [near, far], 0 to 1000",
    )
    ground: float = Field(
        default=0.1,
        gt=0.0,
        le=10.0,
        description="points below this height are removed, metres, above 0",
    )
    full_echo: float = Field(
        default=0.3,
        gt=0.0,
        le=10.0,
        description="seen surface that makes a cell fully bright, in cell areas, above 0 to 10",
    )

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.reach[0] == self.reach[1]:
            raise ValueError(f"reach: [{self.reach[0]}, {self.reach[1]}] is empty; low below high")
        return self


class Points(NamedTuple):
    """What a depth map gives the radar: points on the surfaces that it shows above the ground."""

    column: Array  # [n], cells from the left edge of the radar picture
    row: Array  # [n], cells from its top
    share: Array  # [n], seen surface that the point stands for, m2
    pixel: NDArray[np.int64]  # [n], the point's place in the flattened depth map

    def of(self, mask: NDArray[np.bool_]) -> Points:
        """The points of some pixels of the depth map, [H, W]."""
        kept = mask.ravel()[self.pixel]
        return Points(*(values[kept] for values in self))


def size(options: Options) -> tuple[int, int]:
    """Rows and columns of the grid."""
    return options.height, options.width


def observe(frame: Frame, options: Options, draws: np.random.Generator) -> NDArray[np.uint8]:
    """Echoes in the grid, rows from far to near: [height, width, 1]."""
    return radar_picture(_points(frame, options), options)[..., None]


def boxes(frame: Frame, options: Options) -> Boxes:
    """Footprints of objects with a box in the picture whose own points leave an echo in them."""
    has, box = np.zeros(len(frame.boxed), bool), np.zeros((len(frame.boxed), 4), np.float32)
    for place in np.flatnonzero(frame.boxed):
        own = radar_box(frame.objects[place], frame.pose, options)
        points = _points(frame, options).of(frame.labels == place + 1)
        if own is not None and _shows(points, own, options):
            has[place], box[place] = True, own
    return has, box


@functools.lru_cache(maxsize=1)  # picture and boxes of one frame ask for the same
def _points(frame: Frame, options: Options) -> Points:
    return radar_points(frame.metres, frame.k, frame.pose, options, frame.params.depth)


def refuse(options: Options, scenes: SceneParams) -> str:
    """The floor's height is known no better than the 16 bits of depth along the longest ray."""
    across = math.tan(math.radians(scenes.camera.field_of_view) / 2.0)
    longest = math.hypot(1.0, across, across * scenes.image.height / scenes.image.width)
    least = (scenes.depth.far - scenes.depth.near) / 65535 * longest
    if options.ground >= least:
        return ""
    return (
        f"ground: {options.ground} is less than a step of depth from near to far, so the floor "
        f"would echo; allowed here: {least:.2g} or more"
    )


def why_blind(seen: Seen, options: Options) -> str:
    """Which of its keys leaves out the points that depth has measured of objects."""
    near, far = options.reach
    up, ahead, aside = seen
    if up.max() <= options.ground:
        return f"radar.ground: above {options.ground:g} m {BLIND}; they end at {up.max():.2g} m"
    if not ((ahead > near) & (ahead < far)).any():
        lie = f"{ahead.min():.1f} to {ahead.max():.1f}"
        return f"radar.reach: from {near:g} to {far:g} m {BLIND}; they lie {lie} m ahead"
    if aside.min() >= options.span / 2:
        lie = f"{aside.min():.1f} to {aside.max():.1f}"
        return f"radar.span: in {options.span:g} m {BLIND}; they lie {lie} m to a side"
    return (
        f"radar.reach, radar.span, radar.ground, radar.full_echo: {BLIND}; a larger grid, less "
        "ground or a smaller full_echo shows more"
    )


def to_radar_pixels(floor_points: Array, pose: Array, radar: Options) -> Array:
    """Column and row (down) in the radar picture, [n, 2], of world points [n, 2] on the floor."""
    right, ahead = floor_axes(pose)
    x, y = (floor_points - pose[:2, 3]).T
    return np.stack(_cells(right[0] * x + right[1] * y, ahead[0] * x + ahead[1] * y, radar), 1)


def _cells(right: Array, ahead: Array, radar: Options) -> tuple[Array, Array]:
    """Column and row of metres to the right and ahead of the camera."""
    near, far = radar.reach
    column = (right / radar.span + 0.5) * radar.width
    return column, (far - ahead) / (far - near) * radar.height


def radar_from_depth(
    metres: Array, k: Array, pose: Array, radar: Options, depth: DepthParams
) -> NDArray[np.uint8]:
    """Radar picture [h, w], 0 to 255, from planar depth [H, W] in metres."""
    return radar_picture(radar_points(metres, k, pose, radar, depth), radar)


def radar_points(
    metres: Array, k: Array, pose: Array, radar: Options, depth: DepthParams
) -> Points:
    """Points seen at planar depth [H, W] in metres, but for those lower than `radar.ground`.

    Pixels at the near or far limit of the depth sensor give none: nothing was measured there.
    """
    x, y, distance, pixel, split = _patches(metres, k, pose, radar, depth)
    right, ahead = floor_axes(pose)
    up = rotated(pose[2], x, y, 1.0) * distance + pose[2, 3]
    kept = up > radar.ground
    x, y, distance, pixel = x[kept], y[kept], distance[kept], pixel[kept]
    # Rows of the transform from the camera's frame to (right, ahead).
    to_right, to_ahead = (axis[0] * pose[0, :3] + axis[1] * pose[1, :3] for axis in (right, ahead))
    column, row = _cells(
        rotated(to_right, x, y, 1.0) * distance, rotated(to_ahead, x, y, 1.0) * distance, radar
    )
    return Points(column, row, (distance / (k[0, 0] * split)) ** 2, pixel)


def radar_picture(
    points: Points, radar: Options, width: int | None = None, height: int | None = None
) -> NDArray[np.uint8]:
    """Echoes of the points in a grid, 0 to 255: [radar.height, radar.width] unless told otherwise.

    Points outside the grid are dropped. A cell is 255 when the surface seen in it, measured across
    the line of sight, reaches `radar.full_echo` of the cell's area.
    """
    width, height = width or radar.width, height or radar.height
    seen = _splat(points.column - 0.5, points.row - 0.5, points.share, width, height)
    cell_area = radar.span / radar.width * (radar.reach[1] - radar.reach[0]) / radar.height
    return np.rint(255.0 * np.minimum(seen / (radar.full_echo * cell_area), 1.0)).astype(np.uint8)


def _patches(
    metres: Array, k: Array, pose: Array, radar: Options, depth: DepthParams
) -> tuple[Array, Array, Array, NDArray[np.int64], int]:
    """Points on the patches that may be above ground.

    Returns:
        x / z, y / z and z in the camera's frame, the pixel of each point, and into how many points
        a patch is cut along each side.
    """
    seen = measured(metres, depth)
    inverse = 1.0 / np.where(seen, metres, depth.far)
    limit = STEEPEST * inverse / k[0, 0]
    across, along = (slopes(inverse, limit, seen, axis) for axis in (1, 0))
    near = _maybe_above(inverse, across, along, k, pose, radar)
    rows, columns = np.nonzero(near & seen & ~_on_floor(inverse, k, pose, depth))
    split = _split(len(rows), k, radar, depth)
    offset = (np.arange(split) + 0.5) / split - 0.5
    side = (offset > 0).astype(np.int64)
    du = across[:, rows, columns][side] * offset[:, None]  # [split, n]
    dv = along[:, rows, columns][side] * offset[:, None]
    w = inverse[rows, columns] + du[None, :] + dv[:, None]  # [split v, split u, n]
    distance = 1.0 / np.maximum(w, 0.5 / depth.far)
    x = (columns + 0.5 + offset[:, None] - k[0, 2]) / k[0, 0]
    y = (rows + 0.5 + offset[:, None, None] - k[1, 2]) / k[1, 1]
    pixel = np.broadcast_to(rows * metres.shape[1] + columns, w.shape)
    x, y = np.broadcast_to(x, w.shape), np.broadcast_to(y, w.shape)
    return x.ravel(), y.ravel(), distance.ravel(), pixel.ravel(), split


def _split(pixels: int, k: Array, radar: Options, depth: DepthParams) -> int:
    """Into how many points patches are cut along each side: PER_CELL where they are farthest."""
    farthest = min(depth.far, math.hypot(radar.reach[1], radar.span / 2.0))
    cell = min(radar.span / radar.width, (radar.reach[1] - radar.reach[0]) / radar.height)
    wanted = math.ceil(PER_CELL * farthest / k[0, 0] / cell)
    return max(min(wanted, math.isqrt(MOST_POINTS // max(pixels, 1))), SPLIT)


def _on_floor(inverse: Array, k: Array, pose: Array, depth: DepthParams) -> NDArray[np.bool_]:
    """Pixels that show the floor, as exactly as depth is known: [H, W].

    Seen from low and far, each row of it is a jump from the next; such patches would stand upright.
    """
    height, width = inverse.shape
    x = (np.arange(width) + 0.5 - k[0, 2]) / k[0, 0]
    y = (np.arange(height) + 0.5 - k[1, 2]) / k[1, 1]
    rise = rotated(pose[2], x[None, :], y[:, None], 1.0)  # of a ray, per metre of depth
    return rise + (pose[2, 3] - half_step(k, depth) - FLOOR) * inverse <= 0.0


def _maybe_above(
    inverse: Array,
    across: Array,
    along: Array,
    k: Array,
    pose: Array,
    radar: Options,
) -> NDArray[np.bool_]:
    """Pixels of which a point may lie above the ground limit; the floor is most of the picture.

    A point `ray / w` (w: inverse depth) is above when ray - limit w > 0, which is linear in the
    offsets from the pixel's centre on each side, so that its greatest value lies at an end.
    """
    height, width = inverse.shape
    if radar.ground >= pose[2, 3] or 0.25 * k[0, 0] < STEEPEST:
        return np.ones_like(inverse, bool)  # a camera in the grass, or hardly any pixels
    drop = pose[2, 3] - radar.ground
    x = (np.arange(width) + 0.5 - k[0, 2]) / k[0, 0]
    y = (np.arange(height) + 0.5 - k[1, 2]) / k[1, 1]
    right, down, forward = pose[2, :3]
    value = right * x[None, :] + down * y[:, None] + forward + drop * inverse
    for slope, (before, after) in [(right / k[0, 0], across), (down / k[1, 1], along)]:
        rise = np.maximum(slope + drop * after, -(slope + drop * before))
        value += 0.5 * np.maximum(rise, 0.0)
    return value > -1e-9


def _splat(column: Array, row: Array, share: Array, width: int, height: int) -> Array:
    """Add each point's share to the four cells around it, bilinearly: [h, w]."""
    inside = (column > -1) & (column < width) & (row > -1) & (row < height)
    column, row, share = column[inside], row[inside], share[inside]
    x, y = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    right, down = (column - x) * share, row - y
    left = share - right
    corner = (y + 1) * (width + 2) + x + 1
    total = np.zeros((height + 2) * (width + 2))
    for step, weight in [
        (0, left * (1 - down)),
        (1, right * (1 - down)),
        (width + 2, left * down),
        (width + 3, right * down),
    ]:
        total += np.bincount(corner + step, weights=weight, minlength=total.size)
    return total.reshape(height + 2, width + 2)[1:-1, 1:-1]


def radar_box(
    thing: ObjectSpec, pose: Array, radar: Options
) -> tuple[float, float, float, float] | None:
    """The object's footprint in the radar picture, clipped to it; none if under a cell is in."""
    corners = to_radar_pixels(footprint(thing), pose, radar)
    limit = np.array([radar.width, radar.height], float)
    least, most = corners.min(axis=0), corners.max(axis=0)
    low, high = np.clip(least, 0.0, limit), np.clip(most, 0.0, limit)
    if (high - low < np.minimum(most - least, 1.0)).any():
        return None
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _shows(points: Points, box: tuple[float, float, float, float], radar: Options) -> bool:
    """Whether these points alone leave an echo in the cells of a box."""
    low, high = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
    moved = points._replace(column=points.column - low[0], row=points.row - low[1])
    return bool(radar_picture(moved, radar, *(high - low)).any())
