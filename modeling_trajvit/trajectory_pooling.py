"""Mask pooling and bounding boxes of trajectories in one pass over a label volume (supplement, Table 2, row 2).

The paper masks and averages a (T, 56, 56, D) feature volume once per trajectory. Here a pixel is read once and added to
the trajectory that owns it, and a coarse backbone stage is never enlarged: bilinear resize and mean are both linear, so
mean(resize(x)) = sum over the coarse cells of x * a, where a is the resize's adjoint applied to the trajectory's mask.

Shape letters: N frames, M trajectories, C channels, (H, W) label grid, (h, w) grid of a backbone stage.
"""

import torch


def segment_index(labels: torch.Tensor, num_trajectories: int) -> torch.Tensor:
    """Numbers every (frame, id) of a label volume, so that sums over masks become sums over segments.

    `labels` (N, H, W) int64 in 0..M, 0 for no trajectory. Returns (N, H * W) int64: frame * (M + 1) + id.
    """
    frames = torch.arange(labels.shape[0], device=labels.device)
    return labels.flatten(1) + frames[:, None] * (num_trajectories + 1)


def segment_areas(labels: torch.Tensor, num_trajectories: int) -> torch.Tensor:
    """Pixels of every trajectory in every frame: (N, H, W) labels -> (N, M) float32."""
    index = segment_index(labels, num_trajectories).flatten()
    areas = torch.zeros(labels.shape[0] * (num_trajectories + 1), device=labels.device)
    areas.index_add_(0, index, torch.ones_like(index, dtype=areas.dtype))
    return areas.view(labels.shape[0], num_trajectories + 1)[:, 1:]


def segment_boxes(labels: torch.Tensor, num_trajectories: int) -> torch.Tensor:
    """Bounding box of every trajectory in every frame.

    `labels` (N, H, W). Returns (N, M, 4) float32: x1, y1, x2, y2 as shares of width (x, columns) and height (y, rows),
    maxima exclusive, so that a full frame is (0, 0, 1, 1). A trajectory without pixels has the box (0, 0, 0, 0).
    """
    num_frames, height, width = labels.shape
    num_segments = num_frames * (num_trajectories + 1)
    segment = segment_index(labels, num_trajectories).view_as(labels)
    columns = torch.arange(width, device=labels.device)
    rows = torch.arange(height, device=labels.device).unsqueeze(-1)
    spans = []
    for position, size in ((columns, width), (rows, height)):
        # Which columns (rows) a segment occupies, segments side by side: narrow integers, reduced over the first axis.
        dtype = torch.uint8 if size < 256 else torch.int32
        occupied = torch.zeros(size * num_segments, dtype=dtype, device=labels.device)
        occupied.index_fill_(0, (segment + position * num_segments).flatten(), 1)
        occupied = occupied.view(size, num_segments)
        steps = torch.arange(1, size + 1, dtype=dtype, device=labels.device).unsqueeze(-1)
        high = (occupied * steps).amax(0)
        low = torch.where(high > 0, size - (occupied * steps.flip(0)).amax(0).int(), 0)
        spans.append((low / size, high / size))
    (x1, x2), (y1, y2) = spans
    return torch.stack([x1, y1, x2, y2], dim=-1).view(num_frames, num_trajectories + 1, 4)[:, 1:]


def _bilinear_taps(
    coarse: int, fine: int, dtype: torch.dtype, device: torch.device
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The two coarse cells and weights behind each fine cell, as in `interpolate(..., align_corners=False)`."""
    source = ((torch.arange(fine, dtype=dtype, device=device) + 0.5) * (coarse / fine) - 0.5).clamp(min=0)
    low = source.floor().long().clamp(max=coarse - 1)
    high = (low + 1).clamp(max=coarse - 1)
    fraction = source - low
    return [(low, 1 - fraction), (high, fraction)]


def resize_adjoint(
    labels: torch.Tensor, num_trajectories: int, height: int, width: int, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Share of every coarse cell in every trajectory's mask after a bilinear resize of (h, w) to (H, W).

    `labels` (N, H, W). Returns (N, M, h * w) of `dtype`; a row sums to the trajectory's area.
    """
    num_frames = labels.shape[0]
    index = segment_index(labels, num_trajectories).view_as(labels)
    shares = torch.zeros(num_frames * (num_trajectories + 1) * height * width, dtype=dtype, device=labels.device)
    columns = _bilinear_taps(width, labels.shape[2], dtype, labels.device)
    for row, row_weight in _bilinear_taps(height, labels.shape[1], dtype, labels.device):
        for column, column_weight in columns:
            cell = index * (height * width) + row[:, None] * width + column
            weight = (row_weight[:, None] * column_weight).expand(labels.shape)
            shares.index_add_(0, cell.flatten(), weight.flatten())
    return shares.view(num_frames, num_trajectories + 1, height * width)[:, 1:]


def trajectory_pooling(features: torch.Tensor, labels: torch.Tensor, areas: torch.Tensor) -> torch.Tensor:
    """Mean of a feature map, resized bilinearly to the label grid, under the mask of every trajectory in every frame.

    `features` (N, C, h, w), `labels` (N, H, W), `areas` (N, M) from `segment_areas`. Returns (N, M, C) in the
    features' dtype; sums are taken in at least float32. A trajectory without pixels in a frame has zeros there.
    """
    num_frames, channels, height, width = features.shape
    num_trajectories = areas.shape[1]
    dtype = torch.promote_types(features.dtype, torch.float32)
    areas = areas.to(dtype).clamp(min=1).unsqueeze(-1)
    if (height, width) == labels.shape[1:]:
        pixels = features.permute(0, 2, 3, 1).reshape(-1, channels).to(dtype)
        sums = pixels.new_zeros(num_frames * (num_trajectories + 1), channels)
        sums.index_add_(0, segment_index(labels, num_trajectories).flatten(), pixels)
        pooled = sums.view(num_frames, num_trajectories + 1, channels)[:, 1:].div_(areas)
    else:
        shares = resize_adjoint(labels, num_trajectories, height, width, dtype) / areas
        pooled = shares.to(features.dtype) @ features.flatten(2).transpose(1, 2)
    return pooled.to(features.dtype)
