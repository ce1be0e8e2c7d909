"""The tokens of a region, for towers whose tokens have a place in the frame (supplement, section 4).

Shape letters: B batch, T frames, R regions of a video, t x h x w map of features, D width, M trajectories, (H, W) grid
of trajectory maps, K tokens of a region.
"""

import torch
from torchvision.ops import roi_align

from .model_inputs import INTEGER_TYPES
from .vision_tower import RegionFeatures

# Cells of a region in each direction, the size usual for detection on a map of stride 16.
REGION_SIZE = 7
# A trajectory belongs to a region when at least this share of its mask lies inside the box (supplement, section 4).
SHARE_INSIDE = 0.8


def check_regions(
    boxes: torch.Tensor, frame_index: torch.Tensor, batch_size: int, num_frames: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns boxes (B, R, 4) float32 and the frame of each box (B, R) int64.

    Raises `ValueError` unless boxes are x1 <= x2, y1 <= y2 within 0..1 and frames within 0..T-1.
    """
    if boxes.ndim != 3 or boxes.shape[0] != batch_size or boxes.shape[2] != 4 or not boxes.is_floating_point():
        raise ValueError(
            f"boxes have shape {tuple(boxes.shape)} and dtype {boxes.dtype}: expected floating ({batch_size}, number "
            "of regions, 4), x1, y1, x2, y2 as shares of the frame's width and height."
        )
    shape = tuple(boxes.shape[:2])
    if tuple(frame_index.shape) not in (shape, shape[:1]) or frame_index.dtype not in INTEGER_TYPES:
        raise ValueError(
            f"frame_index has shape {tuple(frame_index.shape)} and dtype {frame_index.dtype}: expected integers "
            f"{shape[:1]} or {shape}, the frame of each video or of each of its boxes."
        )
    boxes, frames = boxes.float(), frame_index.long()
    frames = frames if frames.ndim == 2 else frames.unsqueeze(1).expand(shape)
    if torch.compiler.is_compiling() or not boxes.numel():
        return boxes, frames
    inside = (boxes >= 0) & (boxes <= 1)
    ordered = boxes[..., :2] <= boxes[..., 2:]
    wrong = ~(inside.all(-1) & ordered.all(-1))
    if wrong.any():
        video, region = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"boxes[{video}, {region}] is {[round(side, 4) for side in boxes[video, region].tolist()]}: expected "
            "0 <= x1 <= x2 <= 1 and 0 <= y1 <= y2 <= 1, shares of the frame's width and height."
        )
    low, high = frames.aminmax()
    if low < 0 or high >= num_frames:
        raise ValueError(f"frame_index ranges from {int(low)} to {int(high)}: expected 0 to {num_frames - 1}.")
    return boxes, frames


def require_own_frames(is_own: torch.Tensor, frames: torch.Tensor) -> None:
    """Raises `ValueError` where `is_own` (B, R) says that a box lies in a padding frame; `frames` (B, R) are named."""
    if torch.compiler.is_compiling() or is_own.all():
        return
    video, region = (~is_own).nonzero()[0].tolist()
    raise ValueError(
        f"frame_index of box {region} of video {video} is {int(frames[video, region])}: a padding frame of that video."
    )


def gather_tubelets(last_hidden_state: torch.Tensor, tubelet_sources: torch.Tensor) -> torch.Tensor:
    """Puts tokens (B, 1 + L, D) back in the places `tubelet_sources` (B, t, h, w) that they stand for: (B, t, h, w, D).

    A token that stands for several tubelets is duplicated to each of them.
    """
    videos = torch.arange(len(tubelet_sources), device=tubelet_sources.device).view(-1, 1, 1, 1)
    return last_hidden_state[videos, tubelet_sources]


def align_regions(
    maps: torch.Tensor, frame_to_tubelet: torch.Tensor, boxes: torch.Tensor, frame_index: torch.Tensor
) -> RegionFeatures:
    """ROIAlign on the map of each box's instant: (B, t, h, w, D) maps -> 7 x 7 tokens a region, row by row.

    `frame_to_tubelet` (B, T) is the position in time of each frame's map, -1 for padding frames; `boxes` and
    `frame_index` as in `check_regions`, whose errors it raises.
    """
    boxes, frames = check_regions(boxes, frame_index, *frame_to_tubelet.shape)
    time = frame_to_tubelet.gather(1, frames)
    require_own_frames(time >= 0, frames)
    batch_size, num_regions = frames.shape
    height, width, hidden_size = maps.shape[2:]
    # One picture for each video and instant; half precision would round the sampled places too coarsely.
    pictures = maps.flatten(0, 1).permute(0, 3, 1, 2).float().contiguous()
    videos = torch.arange(batch_size, device=maps.device).unsqueeze(1)
    picture = (videos * maps.shape[1] + time).view(-1, 1).float()
    corners = boxes.flatten(0, 1) * boxes.new_tensor([width, height, width, height])
    rois = torch.cat([picture, corners], dim=1)
    aligned = roi_align(pictures, rois, output_size=REGION_SIZE, sampling_ratio=2, aligned=True).to(maps.dtype)
    features = aligned.flatten(2).transpose(1, 2).reshape(batch_size, num_regions, REGION_SIZE**2, hidden_size)
    return RegionFeatures(features=features, mask=torch.ones_like(features[..., 0], dtype=torch.bool))


def cells_inside(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Share of every cell of an (H, W) grid that lies inside each box: (N, 4) -> (N, H, W)."""

    def overlap(low: torch.Tensor, high: torch.Tensor, size: int) -> torch.Tensor:
        edges = torch.arange(size + 1, device=boxes.device) / size
        covered = torch.minimum(high[:, None], edges[1:]) - torch.maximum(low[:, None], edges[:-1])
        return covered.clamp(min=0) * size

    x1, y1, x2, y2 = boxes.unbind(-1)
    return overlap(y1, y2, height).unsqueeze(2) * overlap(x1, x2, width).unsqueeze(1)


def trajectories_inside(labels: torch.Tensor, is_token: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Which tokens tell of each box: at least 80 % of the trajectory's mask in that frame lies inside (section 4).

    `labels` (N, H, W) int64, the map of each box's frame; `is_token` (N, 1 + M) bool, CLS first; `boxes` (N, 4).
    Returns (N, 1 + M) bool. Where no trajectory qualifies, it is the one that owns most of the box; where none owns any
    of it, the CLS token, which tells of the whole video.
    """
    weights = cells_inside(boxes, *labels.shape[1:]).flatten(1)
    cells = labels.flatten(1)
    inside = weights.new_zeros(is_token.shape).scatter_add(1, cells, weights)
    areas = weights.new_zeros(is_token.shape).scatter_add(1, cells, torch.ones_like(weights))
    inside = inside * is_token
    # Column 0 held the cells of no trajectory.
    inside[:, 0] = 0
    # Sums of shares are exact to about 1e-6 of an area.
    chosen = (inside >= (SHARE_INSIDE - 1e-5) * areas) & (inside > 0)
    most, owner = inside.max(1)
    fallback = torch.where(most > 0, owner, 0).unsqueeze(1)
    only = torch.arange(inside.shape[1], device=inside.device) == fallback
    return torch.where(chosen.any(1, keepdim=True), chosen, only)


def select_trajectories(
    last_hidden_state: torch.Tensor,
    token_mask: torch.Tensor,
    trajectory_maps: torch.Tensor,
    boxes: torch.Tensor,
    frame_index: torch.Tensor,
) -> RegionFeatures:
    """All tokens (B, 1 + M, D) for every region, masked to the trajectories inside its box, see `trajectories_inside`.

    `trajectory_maps` (B, T, H, W) int64 with -1 in padding frames; `boxes` and `frame_index` as in `check_regions`.
    """
    boxes, frames = check_regions(boxes, frame_index, *trajectory_maps.shape[:2])
    videos = torch.arange(len(frames), device=frames.device).unsqueeze(1)
    labels = trajectory_maps[videos, frames]
    require_own_frames((labels >= 0).all(-1).all(-1), frames)
    is_token = token_mask.unsqueeze(1).expand(-1, frames.shape[1], -1)
    mask = trajectories_inside(labels.flatten(0, 1), is_token.flatten(0, 1), boxes.flatten(0, 1))
    features = last_hidden_state.unsqueeze(1).expand(-1, frames.shape[1], -1, -1)
    return RegionFeatures(features=features, mask=mask.unflatten(0, tuple(frames.shape)))
