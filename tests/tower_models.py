"""Small models of every vision tower, and videos that each of them takes."""

import torch

from trajvit.modeling_trajvit.vision_tower_configs import VISION_TOWER_CONFIGS
from trajvit.modeling_trajvit.vision_towers import VISION_TOWERS

TOWERS = list(VISION_TOWER_CONFIGS)
LOCALISING = [tower for tower in TOWERS if tower != "token_merge"]
SIZE = 32
SMALL = {
    "image_size": SIZE,
    "num_frames": 4,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    # Wider than usual: at this width the tokens would hardly move each other otherwise, and mistakes would not show.
    "initializer_range": 0.1,
}
TUBELETS = {"patch_size": 8}
BACKBONE = {
    "feature_size": 8,
    "resampler_hidden_size": 16,
    "resampler_num_attention_heads": 2,
    "backbone_config": {
        "model_type": "resnet",
        "layer_type": "basic",
        "embedding_size": 8,
        "hidden_sizes": [8, 8, 12, 12],
        "depths": [1] * 4,
    },
}
OWN = {
    "trajvit": BACKBONE,
    "token_learner": {"num_learned_tokens": 3, "token_learner_hidden_size": 16, **TUBELETS},
    # Half of 32 tubelets: merging at every layer, and enough tokens left to tell videos apart.
    "tome": {"tokens_merged_per_layer": 8, **TUBELETS},
    "token_merge": {**BACKBONE, "num_tokens": 6},
}
TEXT = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 99,
}


def make_config(tower, **options):
    return VISION_TOWER_CONFIGS[tower](**{**SMALL, **OWN.get(tower, TUBELETS), **options})


def make_tower(tower, attention="sdpa", **options):
    torch.manual_seed(0)
    return VISION_TOWERS[tower]._from_config(make_config(tower, **options), attn_implementation=attention).eval()


def make_videos(num_frames=4, batch_size=2, seed=0):
    """Videos whose left half stands still, so that towers that drop or merge tubelets find some; 5 trajectories.

    One trajectory is absent in some frames, one of the second video everywhere.
    """
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(batch_size, num_frames, 3, SIZE, SIZE, generator=generator)
    frames[..., : SIZE // 2] = frames[:, :1, ..., : SIZE // 2]
    maps = torch.randint(0, 6, (batch_size, num_frames, 4, 4), generator=generator)
    maps = maps.repeat_interleave(2, 2).repeat_interleave(2, 3)
    maps[0, ::2][maps[0, ::2] == 3] = 0
    maps[1:][maps[1:] == 5] = 0
    return {
        "pixel_values_videos": frames,
        "trajectory_maps": maps,
        "trajectory_attention_mask": torch.ones(batch_size, 5, dtype=torch.long),
    }


def select(inputs, videos, frames=slice(None)):
    """Some videos of `make_videos`, and of these some frames."""
    per_frame = ("pixel_values_videos", "trajectory_maps")
    return {name: value[videos][:, frames] if name in per_frame else value[videos] for name, value in inputs.items()}


def tokens_of(output, video):
    """The tokens that a video of a batch has, without those that stand for padding."""
    return output.last_hidden_state[video][output.token_mask[video]]
