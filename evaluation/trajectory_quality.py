"""How well trajectories follow objects: two scores, against one foreground mask and against a synthetic scene's full
truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from skimage.measure import label

from trajvit.processing.synthetic_scenes import Scene

# An object counts in a frame when it shows at least this share of the frame (98 pixels at 256 x 384).
_MIN_VISIBLE_SHARE = 0.001
# A trajectory lives on an object in a frame when it covers this share of the object's visible pixels there, and four
# pixels.
_MIN_LIFE_SHARE = 0.02
_MIN_LIFE_PIXELS = 4
# Fewer point tracks than this say nothing about an object.
_MIN_TRACKS = 5


@dataclass(frozen=True)
class ForegroundScore:
    """Scores of trajectories against the mask of one object; NaN where the masks leave a score undefined.

    `oracle_iou`: IoU, over all frames together, of the mask with the union of the trajectories that lie on the
    object: more than half of whose space-time pixels are in the mask. NaN when all masks are empty.
    `persistence`: mean, over the frames after the first that shows the object and that show it too, of the share of
    its pixels whose trajectory lay on the object in that first frame (more than half of its pixels there). NaN when
    no later frame shows the object.
    `coverage`: share of all pixels with a trajectory. `num_trajectories` in all, `num_object_trajectories` on the
    object.
    """

    oracle_iou: float
    persistence: float
    coverage: float
    num_trajectories: int
    num_object_trajectories: int


@dataclass(frozen=True)
class SceneScore:
    """Scores of trajectories against a synthetic scene; means over objects, NaN when no object qualifies.

    A trajectory is owned by the region (a sprite, or the background of a shot) that has most of its space-time pixels.
    `asa`: achievable segmentation accuracy, the share of all pixels that lie in the owner of their trajectory.
    `object_iou`: IoU of an object with the union of the trajectories it owns.
    `identity_consistency`: share of an object's material points with one and the same trajectory in their first and
    last visible frame.
    `life`: longest time one owned trajectory stays on an object, as a share of the frames that show the object, at
    most 1.
    `component_share`: share of the covered pixels that lie in their trajectory's largest 4-connected piece of the
    frame; NaN when nothing is covered.
    `coverage`: share of all pixels with a trajectory. `num_trajectories` counts them.
    """

    asa: float
    object_iou: float
    identity_consistency: float
    life: float
    component_share: float
    coverage: float
    num_trajectories: int


def foreground_score(ids: np.ndarray, masks: np.ndarray) -> ForegroundScore:
    """Score trajectories against the masks of one object in the same frames.

    Args:
        ids: (T, h, w) integers, 0 or less for no trajectory; compared at the resolution of the masks (nearest
            neighbour).
        masks: (T, H, W) bool.

    Raises ValueError for other ranks or types, no frame, or a different number of frames.
    """
    masks = np.asarray(masks)
    if masks.ndim != 3 or masks.dtype != bool:
        raise ValueError(f"masks are {masks.dtype} of shape {masks.shape}; expected bool (T, H, W)")
    ids = _compact(ids, masks.shape)
    count = int(ids.max()) + 1
    on_object = _mostly_inside(ids, masks, count)
    predicted = on_object[ids]
    union = int(np.count_nonzero(predicted | masks))
    oracle_iou = int(np.count_nonzero(predicted & masks)) / union if masks.any() else float("nan")
    return ForegroundScore(
        oracle_iou=float(oracle_iou),
        persistence=_persistence(ids, masks, count),
        coverage=float((ids > 0).mean()),
        num_trajectories=count - 1,
        num_object_trajectories=int(on_object.sum()),
    )


def scene_score(ids: np.ndarray, scene: Scene, sample_indices: Sequence[int] | np.ndarray) -> SceneScore:
    """Score trajectories of the frames `sample_indices` (T,) of a scene.

    Args:
        ids: (T, h, w) integers, 0 or less for no trajectory; compared at the resolution of the scene (nearest
            neighbour).

    Raises ValueError for another rank or type, or when frames and indices do not match the scene.
    """
    sample_indices = np.asarray(sample_indices)
    if (
        sample_indices.ndim != 1
        or not len(sample_indices)
        or not 0 <= sample_indices.min() <= sample_indices.max() < len(scene.masks)
    ):
        raise ValueError(f"sample_indices are {sample_indices}; expected some of the scene's 0..{len(scene.masks) - 1}")
    masks = scene.masks[sample_indices]
    ids = _compact(ids, masks.shape)
    num_objects = len(scene.objects)
    # Every shot's background is a place of its own: no trajectory may span a cut.
    regions = np.where(masks == 0, num_objects + 1 + scene.shot_of_frame[sample_indices][:, None, None], masks)
    num_regions = num_objects + 2 + len(scene.cuts)
    count = int(ids.max()) + 1
    overlap = np.bincount((ids * num_regions + regions).ravel(), minlength=count * num_regions).reshape(
        count, num_regions
    )
    overlap[0] = 0
    owner = overlap.argmax(1)
    visible = np.stack([np.bincount(mask.ravel(), minlength=num_objects + 1) for mask in masks], axis=1)
    shown = visible >= _MIN_VISIBLE_SHARE * masks[0].size
    ious, lives = [], []
    for region in range(1, num_objects + 1):
        if shown[region].sum() < 2:
            continue
        owned = np.flatnonzero((owner == region) & (overlap[:, region] > 0))
        inside = overlap[owned, region].sum()
        ious.append(inside / (visible[region].sum() + overlap[owned].sum() - inside))
        lives.append(_longest_life(ids, masks == region, owned, visible[region], int(shown[region].sum())))
    return SceneScore(
        asa=float(overlap.max(1).sum() / ids.size),
        object_iou=_mean(ious),
        identity_consistency=_identity_consistency(ids, scene, sample_indices),
        life=_mean(lives),
        component_share=_component_share(ids),
        coverage=float((ids > 0).mean()),
        num_trajectories=count - 1,
    )


def resize_ids(ids: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return (T, h, w) ids at (height, width), each pixel from the nearest one by pixel centres."""
    rows = ((np.arange(height) + 0.5) * ids.shape[1] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * ids.shape[2] / width).astype(np.int64)
    return ids[:, rows[:, None], columns]


def _compact(ids: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Check ids, bring them to `shape` and renumber them 1..M in order of their old numbers, 0 for none."""
    ids = np.asarray(ids)
    if ids.ndim != 3 or ids.dtype.kind not in "iu" or ids.size == 0:
        raise ValueError(f"ids are {ids.dtype} of shape {ids.shape}; expected integers (T, H, W) with no empty axis")
    if len(ids) != shape[0]:
        raise ValueError(f"ids have {len(ids)} frames, the truth has {shape[0]}; expected as many")
    if ids.shape != shape:
        ids = resize_ids(ids, *shape[1:])
    present, compact = np.unique(np.maximum(ids, 0), return_inverse=True)
    return compact.reshape(shape) + (0 if present[0] == 0 else 1)


def _mostly_inside(ids: np.ndarray, masks: np.ndarray, count: int) -> np.ndarray:
    """Return for each id (count,) bool whether more than half of its pixels are in the mask; never for id 0."""
    total = np.bincount(ids.ravel(), minlength=count)
    inside = np.bincount(ids[masks], minlength=count)
    mostly = 2 * inside > total
    mostly[0] = False
    return mostly


def _persistence(ids: np.ndarray, masks: np.ndarray, count: int) -> float:
    frames = np.flatnonzero(masks.any((1, 2)))
    if len(frames) < 2:
        return float("nan")
    first, later = frames[0], frames[1:]
    on_object = _mostly_inside(ids[first], masks[first], count)
    return float(np.mean([on_object[ids[frame][masks[frame]]].mean() for frame in later]))


def _longest_life(ids: np.ndarray, mask: np.ndarray, owned: np.ndarray, visible: np.ndarray, num_shown: int) -> float:
    if not len(owned):
        return 0.0
    frame = np.nonzero(mask)[0]
    num_frames, count = len(mask), int(ids.max()) + 1
    pixels = np.bincount(ids[mask] * num_frames + frame, minlength=count * num_frames).reshape(count, num_frames)[owned]
    alive = pixels >= np.maximum(_MIN_LIFE_SHARE * visible, _MIN_LIFE_PIXELS)
    return min(1.0, alive.sum(1).max() / num_shown)


def _identity_consistency(ids: np.ndarray, scene: Scene, sample_indices: np.ndarray) -> float:
    tracks = scene.tracks
    use = (tracks.object_ids > 0) & (tracks.visible[:, sample_indices].sum(1) >= 2)
    visible = tracks.visible[use][:, sample_indices]
    pixel = np.rint(np.nan_to_num(tracks.positions[use][:, sample_indices])).astype(np.int64)
    point = np.arange(len(visible))
    first, last = visible.argmax(1), visible.shape[1] - 1 - visible[:, ::-1].argmax(1)

    def id_at(frame: np.ndarray) -> np.ndarray:
        return ids[frame, pixel[point, frame, 1], pixel[point, frame, 0]]

    kept = (id_at(first) == id_at(last)) & (id_at(first) > 0)
    num_points = np.bincount(tracks.object_ids[use])
    num_kept = np.bincount(tracks.object_ids[use], kept)
    enough = num_points >= _MIN_TRACKS
    return _mean(num_kept[enough] / num_points[enough])


def _component_share(ids: np.ndarray) -> float:
    largest = covered = 0
    for frame in ids:
        components = label(frame, connectivity=1, background=0)
        sizes = np.bincount(components.ravel())
        id_of = np.zeros(len(sizes), np.int64)
        id_of[components.ravel()] = frame.ravel()
        best = np.zeros(int(frame.max()) + 1, np.int64)
        np.maximum.at(best, id_of[1:], sizes[1:])
        largest += int(best.sum())
        covered += int(sizes[1:].sum())
    return largest / covered if covered else float("nan")


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
