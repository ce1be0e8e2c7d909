"""The hue of RGB pictures turned by an angle, as `torchvision.transforms.v2.functional.adjust_hue` turns it.

In HSV a colour of value v, chroma c (its largest channel less its smallest) and hue h, in sixths of a turn, has
the channels v - c + c * clamp(|(h + n) mod 6 - 3| - 1, 0, 1), with n = 0, 4 and 2 for red, green and blue. So
saturation is never needed and nothing is looked up by sector, which makes this several times as fast on a CPU
(`benchmarks/data_pipeline.py`). The largest difference to torchvision's result is of the order of float32's rounding.
"""

import torch

_PHASES = (0.0, 4.0, 2.0)
# Below the chroma of any two values that a byte tells apart, so that it only keeps grey from dividing by zero.
_LEAST_CHROMA = 1e-9


def rotate_hue(pictures: torch.Tensor, turn: float) -> torch.Tensor:
    """Turn the hue of all pixels.

    Args:
        pictures: (..., 3, H, W) float32 RGB in 0..1.
        turn: Share of a full turn, -0.5 to 0.5.

    Returns:
        A new tensor like `pictures`.
    """
    red, green, blue = pictures.unbind(-3)
    value = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - low
    per_chroma = chroma.clamp(min=_LEAST_CHROMA).reciprocal_()
    hue = torch.where(
        value == red,
        (green - blue).mul_(per_chroma),
        torch.where(
            value == green,
            (blue - red).mul_(per_chroma).add_(2),
            (red - green).mul_(per_chroma).add_(4),
        ),
    )
    turned = torch.empty_like(pictures)
    for channel, phase in enumerate(_PHASES):
        angle = hue + (phase + 6 * turn)
        angle.sub_(angle.div(6).floor_().mul_(6))
        share = angle.sub_(3).abs_().sub_(1).clamp_(0, 1)
        torch.addcmul(low, share, chroma, out=turned.select(-3, channel))
    return turned
