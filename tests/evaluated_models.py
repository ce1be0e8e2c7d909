"""Small models with processors, and videos on disk, for the tests of evaluation."""

import numpy as np
import torch
from numbered_videos import write_video
from tower_models import SIZE, TEXT, make_config

from trajvit.evaluation.checkpoint_loading import EvaluatedModel
from trajvit.evaluation.evaluation_data import MediaItem
from trajvit.modeling_trajvit import TrajViTContrastiveConfig, TrajViTForContrastive
from trajvit.processing.processing_trajvit import TrajViTProcessor
from trajvit.processing.video_processing_trajvit import TrajViTVideoProcessor
from trajvit.training.synthetic_vocabulary import synthetic_tokenizer

FRAMES = 4


def make_processor(tower="vit3d"):
    video_processor = TrajViTVideoProcessor(
        size={"height": SIZE, "width": SIZE},
        num_frames=FRAMES,
        feature_size=8,
        generate_trajectories=tower == "trajvit",
        generator={"max_trajectories": 6, "short_side": 32},
    )
    return TrajViTProcessor(synthetic_tokenizer(), video_processor)


def make_contrastive(tower="vit3d", seed=0):
    tokenizer = synthetic_tokenizer()
    torch.manual_seed(seed)
    config = TrajViTContrastiveConfig(
        vision_config=make_config(tower),
        text_config={**TEXT, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id},
        text_checkpoint=None,
        projection_dim=16,
    )
    return TrajViTForContrastive(config).eval()


def make_model(tower="vit3d", seed=0):
    """A contrastive model as evaluations take it."""
    processor = make_processor(tower)
    return EvaluatedModel(
        f"small-{tower}", make_contrastive(tower, seed), processor.video_processor, processor.tokenizer
    )


def save_checkpoint(folder, tower="vit3d"):
    """A folder that `load_contrastive` and `load_tower` read."""
    make_contrastive(tower).save_pretrained(folder)
    make_processor(tower).save_pretrained(folder)
    return folder


def moving_square(number, frames=6, side=32):
    """(frames, side, side, 3) uint8: a square of a colour and a way of its own."""
    video = np.full((frames, side, side, 3), 30 + 3 * number, np.uint8)
    color = np.random.default_rng(number).integers(60, 255, 3)
    for frame in range(frames):
        left = (2 * number + 3 * frame) % (side - 10)
        video[frame, 6 + number % 8 : 16 + number % 8, left : left + 10] = color
    return video


def write_squares(folder, count):
    """`count` short video files named 0.mp4, 1.mp4, ...: their items."""
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for number in range(count):
        path = folder / f"{number}.mp4"
        write_video(path, moving_square(number))
        items.append(MediaItem(str(number), str(path)))
    return items
