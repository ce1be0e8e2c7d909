"""One random transform for all frames of a clip and for its trajectory maps (supplement, section 1).

The randomness of a clip is drawn first, into a `Draw`, from a generator of its own: a worker, a thread and the training
process make the same of a seed, and none disturbs torch's global generator. Pictures are then changed by torchvision's
v2 functions, for which frames are a `tv_tensors.Video` and ids a `tv_tensors.Mask`: frames are cropped and scaled
together as bytes; what changes colours follows in float32, a few frames at a time, which stay in the processor's cache.

Shape legend: T frames, (H, W) a clip's size, (h, w) that of its trajectories, S pixels, G cells of the feature grid.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from trajvit.processing.stored_values import SampleError
from trajvit.processing.trajectories import Trajectories

from .hue_rotation import rotate_hue
from .run_config import AugmentationSettings
from .samples import Clip, Sample

_CROP_TRIALS = 10
_BLUR_REACH = 3  # standard deviations
_FRAMES_RECOLORED = 2  # at once, for the sake of the cache
_FRAMES_BLURRED = 8

_COLOR_CHANGES: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
    "hue": rotate_hue,
}


@dataclass(frozen=True)
class Draw:
    """What happens to every frame of a clip.

    Attributes:
        crop: top, left, height and width of the part that is kept, in pixels of the frames.
        flip: Whether left and right are swapped.
        colors: Colour changes and their factors (of the hue: its turn), in the order in which they happen.
        blur_sigma: Standard deviation of the Gaussian blur in pixels of the result; None for none.
        grayscale: Whether colour is lost.
    """

    crop: tuple[int, int, int, int]
    flip: bool = False
    colors: tuple[tuple[str, float], ...] = ()
    blur_sigma: float | None = None
    grayscale: bool = False


def draw_augmentation(settings: AugmentationSettings, height: int, width: int, random: Random) -> Draw:
    """Draw for a clip of (height, width) pixels. Without `settings.enabled` it is kept as it is."""
    if not settings.enabled:
        return Draw((0, 0, height, width))
    crop = _draw_crop(settings, height, width, random)
    flip = random.random() < settings.flip
    colors: list[tuple[str, float]] = []
    if random.random() < settings.color_jitter:
        for name in ("brightness", "contrast", "saturation"):
            strength = getattr(settings, name)
            colors.append((name, random.uniform(max(0.0, 1 - strength), 1 + strength)))
        colors.append(("hue", random.uniform(-settings.hue, settings.hue)))
        random.shuffle(colors)
        colors = [(name, factor) for name, factor in colors if getattr(settings, name) > 0]
    sigma = random.uniform(*settings.blur_sigma) if random.random() < settings.blur else None
    return Draw(crop, flip, tuple(colors), sigma, random.random() < settings.grayscale)


class ClipTransform:
    """From a decoded clip to a sample. Picklable; the same for equal seeds, whichever process it runs in.

    Args:
        image_size: S.
        feature_size: G; None for towers that take no trajectories.
        augmentation: What is drawn at random.
        max_trajectories: The largest so many trajectories stay, by the cells that they have in all frames.
        num_captions: Captions of a sample, drawn from the clip's; some twice where it has fewer.
    """

    def __init__(
        self,
        image_size: int,
        feature_size: int | None,
        augmentation: AugmentationSettings,
        max_trajectories: int,
        num_captions: int,
    ):
        largest = torch.iinfo(torch.int16).max
        if not 1 <= max_trajectories <= largest:
            raise ValueError(f"max_trajectories={max_trajectories}: expected 1 to {largest}")
        if image_size < 1 or num_captions < 1 or (feature_size is not None and feature_size < 1):
            raise ValueError(
                f"image_size={image_size}, feature_size={feature_size}, num_captions={num_captions}: expected at least "
                "1 of each, or None for feature_size"
            )
        self.image_size = image_size
        self.feature_size = feature_size
        self.augmentation = augmentation
        self.max_trajectories = max_trajectories
        self.num_captions = num_captions

    def __call__(self, clip: Clip, seed: int) -> Sample:
        """The sample that `seed` makes of a clip.

        Raises:
            SampleError: Trajectories are wanted and the clip has none, or not of its frames.
        """
        random = Random(seed)
        captions = _draw_captions(clip.captions, self.num_captions, random)
        height, width = clip.frames.shape[1:3]
        draw = draw_augmentation(self.augmentation, height, width, random)
        pixels = augmented(clip.frames, draw, self.image_size)
        trajectory_map, num_trajectories = None, 0
        if self.feature_size is not None:
            ids = _checked_trajectories(clip).ids
            cells = cells_of_crop(ids, draw, (height, width), self.feature_size)
            trajectory_map, num_trajectories = _largest(cells, self.max_trajectories)
        return Sample(clip.key, pixels, trajectory_map, num_trajectories, captions)


def augmented(frames: np.ndarray, draw: Draw, size: int) -> torch.Tensor:
    """(T, H, W, 3) uint8 -> (T, 3, S, S) uint8, all frames changed in the same way; `size` is S."""
    # Seen from outside the channels come first; in memory they stay last, which is how bytes are scaled fastest.
    video = tv_tensors.Video(torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2))
    video = F.resized_crop(video, *draw.crop, [size, size], antialias=True)
    if draw.flip:
        video = F.horizontal_flip(video)
    pixels = video.as_subclass(torch.Tensor).contiguous()
    if draw.colors:
        _change_colors(pixels, draw.colors)
    if draw.blur_sigma is not None:
        pixels = _blurred(pixels, draw.blur_sigma)
    return F.rgb_to_grayscale(pixels, num_output_channels=3).contiguous() if draw.grayscale else pixels


def cells_of_crop(ids: np.ndarray, draw: Draw, size: tuple[int, int], grid: int) -> torch.Tensor:
    """The trajectory under the centre of each cell of the feature grid, which covers what the crop keeps.

    Args:
        ids: (T, h, w) integers, of any resolution: the crop is the same share of the picture.
        draw: Its crop and flip are used.
        size: (H, W) of the frames, in whose pixels the crop is told.
        grid: G.

    Returns:
        (T, G, G) of the ids' type.
    """
    top, left, height, width = draw.crop
    rows = _cell_centers(top, height, grid, size[0], ids.shape[1])
    columns = _cell_centers(left, width, grid, size[1], ids.shape[2])
    cells = tv_tensors.Mask(torch.from_numpy(ids[:, rows[:, None], columns]))
    return (F.horizontal_flip(cells) if draw.flip else cells).as_subclass(torch.Tensor)


def _blurred(pixels: torch.Tensor, sigma: float) -> torch.Tensor:
    """(T, 3, S, S) uint8 -> the same, blurred by a Gaussian of `sigma` pixels."""
    # Mirrored borders allow for no more than one picture's side.
    reach = min(math.ceil(_BLUR_REACH * sigma), min(pixels.shape[-2:]) - 1)
    side = 2 * reach + 1
    # A convolution is fastest where channels are last and fill the vector unit, so frames become channels; one along
    # rows and one along columns make the Gaussian.
    result = torch.empty_like(pixels)
    for frames, blurry in zip(pixels.split(_FRAMES_BLURRED), result.split(_FRAMES_BLURRED), strict=True):
        channels = frames.reshape(1, -1, *frames.shape[-2:]).contiguous(memory_format=torch.channels_last)
        along_rows = F.gaussian_blur(channels.to(torch.float32), [side, 1], [sigma, sigma])
        both = F.gaussian_blur(along_rows, [1, side], [sigma, sigma])
        blurry.copy_(both.round_().reshape(frames.shape))
    return result


def _change_colors(pixels: torch.Tensor, colors: tuple[tuple[str, float], ...]) -> None:
    """Change (T, 3, S, S) uint8 in place."""
    for frames in pixels.split(_FRAMES_RECOLORED):
        changed = frames.to(torch.float32).div_(255)
        for name, factor in colors:
            changed = _COLOR_CHANGES[name](changed, factor)
        frames.copy_(changed.mul_(255).round_())


def _draw_crop(settings: AugmentationSettings, height: int, width: int, random: Random) -> tuple[int, int, int, int]:
    """The rule of torchvision's `RandomResizedCrop`: area and log aspect uniform, the centre where none fits."""
    low, high = settings.crop_ratio
    for _ in range(_CROP_TRIALS):
        area = random.uniform(*settings.crop_scale) * height * width
        aspect = math.exp(random.uniform(math.log(low), math.log(high)))
        crop_height, crop_width = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < crop_height <= height and 0 < crop_width <= width:
            top, left = random.randint(0, height - crop_height), random.randint(0, width - crop_width)
            return top, left, crop_height, crop_width
    crop_height = min(height, max(1, round(width / low)))
    crop_width = min(width, max(1, round(height * high)))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def _draw_captions(captions: tuple[str, ...], count: int, random: Random) -> tuple[str, ...]:
    drawn = random.sample(captions, min(count, len(captions)))
    return tuple(drawn + random.choices(captions, k=count - len(drawn)))


def _checked_trajectories(clip: Clip) -> Trajectories:
    if clip.trajectories is None:
        raise SampleError("it has no trajectories, which the tower needs")
    if clip.trajectories.num_frames != len(clip.frames):
        raise SampleError(f"its trajectories have {clip.trajectories.num_frames} frames, it has {len(clip.frames)}")
    return clip.trajectories


def _cell_centers(start: int, extent: int, grid: int, size: int, map_size: int) -> np.ndarray:
    """The row (or column) of a map of `map_size` in which the centre of each of `grid` cells lies.

    Centre i is at start + (i + 1/2) * extent / grid of `size` pixels; integers keep it exact.
    """
    centers = 2 * grid * start + (2 * np.arange(grid, dtype=np.int64) + 1) * extent
    return centers * map_size // (2 * grid * size)


def _largest(cells: torch.Tensor, most: int) -> tuple[torch.Tensor, int]:
    """Ids 1..M in order of the ids before, of the `most` that have the most cells (ties: the lower id); int16."""
    areas = torch.bincount(cells.flatten())
    areas[0] = 0
    kept = (areas > 0).nonzero().flatten()
    if len(kept) > most:
        kept = areas.argsort(descending=True, stable=True)[:most].sort().values
    new_ids = torch.zeros(len(areas), dtype=torch.int16)
    new_ids[kept] = torch.arange(1, len(kept) + 1, dtype=torch.int16)
    return new_ids[cells.long()], len(kept)
