"""Measures a batch of unequal videos packed, padded, and each video alone: FLOPs and time of TrajViT and RLT.

    python benchmarks/packing.py                        # ViT-Large, 16 frames, on the CPU
    python benchmarks/packing.py --size tiny --repeats 1

TrajViT's videos have `--trajectories`, RLT's are a still image, two scenes and noise (evaluation/scene_clips.py).
Packed is what the towers do; padded is the same batch with every sequence as long as the longest, which they do only
where shapes must stay. FLOPs are those of the transformer's layers; time is that of the whole tower, the best of
alternating rounds.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from tower_report import packing_section
from towers import RESULTS

from trajvit.evaluation.cost_measuring import count_flops, seconds
from trajvit.evaluation.scene_clips import NOISE, SCENE, clip_frames, trajectory_inputs
from trajvit.modeling_trajvit.video_transformer import VideoTransformerEncoder
from trajvit.modeling_trajvit.vision_tower_configs import VISION_TOWER_CONFIGS
from trajvit.modeling_trajvit.vision_towers import VISION_TOWERS

TOWERS = ("trajvit", "rlt")
FORMS = ("packed", "alone", "padded")
LAYER = re.compile(r"^\w+\.encoder\.layers\.\d+$")

Inputs = dict[str, torch.Tensor]


def unequal_videos(tower: str, config: Any, num_frames: int, counts: list[int]) -> Inputs:
    """A batch whose videos differ in tokens: by their trajectories, or by how much of the picture changes."""
    size = config.image_size
    if tower == "trajvit":
        frames = clip_frames(SCENE, num_frames, size, len(counts))
        return {"pixel_values_videos": frames, **trajectory_inputs(num_frames, counts, config.feature_size)}
    scenes, noise = clip_frames(SCENE, num_frames, size, 2), clip_frames(NOISE, num_frames, size)
    still = scenes[:1, :1].expand(-1, num_frames, -1, -1, -1)
    return {"pixel_values_videos": torch.cat([still, scenes, noise])}


def each_alone(inputs: Inputs) -> list[Inputs]:
    """The videos of a batch as batches of one, without the padding of their trajectories."""
    videos = []
    for row in range(len(inputs["pixel_values_videos"])):
        video = {name: tensor[row : row + 1] for name, tensor in inputs.items()}
        if "trajectory_attention_mask" in video:
            mask = video["trajectory_attention_mask"]
            video["trajectory_attention_mask"] = mask[:, : int(mask.sum())]
        videos.append(video)
    return videos


@contextmanager
def padding() -> Iterator[None]:
    """Has encoders pass batches padded, as they do where hidden states are to be returned."""
    with patch.object(VideoTransformerEncoder, "pads_may_be_left_out", return_value=False):
        yield


def forms_of(model: Any, inputs: Inputs) -> dict[str, Callable[[], Any]]:
    alone = each_alone(inputs)

    def padded() -> Any:
        with padding():
            return model(**inputs)

    return {"packed": lambda: model(**inputs), "alone": lambda: [model(**video) for video in alone], "padded": padded}


def layer_flops(model: Any, run: Callable[[], Any]) -> int:
    """FLOPs of the transformer's layers alone."""
    _, counter = count_flops(model, run)
    counts = counter.get_flop_counts()
    return sum(sum(kinds.values()) for module, kinds in counts.items() if LAYER.search(module))


@torch.no_grad()
def measure(tower: str, options: argparse.Namespace) -> dict[str, Any]:
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    torch.manual_seed(0)
    model: Any = VISION_TOWERS[tower](VISION_TOWER_CONFIGS[tower].from_name(options.size)).eval().to(device, dtype)
    inputs = unequal_videos(tower, model.config, options.frames, options.trajectories)
    inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"].to(dtype)
    forms = forms_of(model, inputs)
    tokens = model(**inputs).token_mask.sum(1).tolist()
    rounds = [{form: seconds(run, device) for form, run in forms.items()} for _ in range(options.repeats)]
    return {
        **{name: getattr(options, name) for name in ("size", "device", "dtype", "threads", "frames")},
        "tower": tower,
        "tokens": tokens,
        "gflop": {form: layer_flops(model, run) / 1e9 for form, run in forms.items()},
        "seconds": {form: [times[form] for times in rounds] for form in FORMS},
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="large", choices=["tiny", "small", "base", "large"])
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--trajectories", type=int, nargs="+", default=[16, 48, 80, 128], help="of TrajViT's videos")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/packing_<size>_<device>.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    records = [measure(tower, options) for tower in TOWERS]
    output = options.output or RESULTS / f"packing_{options.size}_{options.device}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(records, indent=1) + "\n")
    print(packing_section(records))


if __name__ == "__main__":
    main()
