"""Fine segmentation of a frame: SLIC superpixels, nearly identical neighbours merged, borders put on image edges.

Shape legend: H height, W width.
"""

import numpy as np
from skimage.segmentation import slic

from .border_snapping import snap_to_edges
from .frame_appearance import FrameFeatures
from .region_graph import RegionGraphBuilder
from .region_merging import MergeWeights, merge_regions

SLIC_COMPACTNESS = 12.0
SLIC_ITERATIONS = 6
SLIC_SIGMA = 0.8  # pixels of smoothing inside SLIC

# Only what looks alike and shares a long border without an edge is merged, whatever its size.
_SAME_SURFACE = MergeWeights(motion=0.0, area_exponent=0.0, contact_exponent=0.3)


def segment_frame(features: FrameFeatures, num_superpixels: int = 400, flat_cost: float = 5.0) -> np.ndarray:
    """Cut a frame into fine regions: large ones where it is flat, superpixels elsewhere.

    Args:
        features: The frame.
        num_superpixels: About how many superpixels SLIC starts from.
        flat_cost: Neighbours whose colour distance plus boundary gradient (CIELAB units), weighted by contact, stays
            below this become one region. 0 keeps the superpixels.

    Returns:
        (H, W) int32 labels 1..n.
    """
    superpixels = slic(
        features.rgb,
        n_segments=num_superpixels,
        compactness=SLIC_COMPACTNESS,
        sigma=SLIC_SIGMA,
        max_num_iter=SLIC_ITERATIONS,
        start_label=1,
    )
    builder = RegionGraphBuilder(int(superpixels.max()))
    builder.add_frame(superpixels, features)
    merged = merge_regions(builder.build(), _SAME_SURFACE, max_cost=flat_cost).labels_at(1)
    return renumber(snap_to_edges(renumber(merged[superpixels]), features.gradient))


def renumber(labels: np.ndarray) -> np.ndarray:
    """Number the labels that occur 1..n in their order, as int32."""
    values, inverse = np.unique(labels, return_inverse=True)
    return (inverse.reshape(labels.shape) + 1).astype(np.int32) if len(values) else labels.astype(np.int32)
