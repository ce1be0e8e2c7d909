"""`trajvit tokenize`, `draw` and `embed`, as a user types them."""

import json

import av
import numpy as np
import pytest
import torch
from cli_runs import files_under, noise, result, trajvit, write_videos
from evaluated_models import make_processor, save_checkpoint
from numbered_videos import write_video
from PIL import Image
from safetensors import safe_open

from trajvit.modeling_trajvit import TrajViTForContrastive, TrajViTModel
from trajvit.processing.clip_generation import ClipGenerator
from trajvit.processing.decoding import decode_video
from trajvit.processing.generation_settings import GenerationSettings
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.processing_trajvit import TrajViTProcessor
from trajvit.processing.trajectories import Trajectories
from trajvit.search_demo import CHECKPOINT

QUICK = ["--frames", "3", "--short-side", "32", "--max-trajectories", "4", "--backend-option", "num_superpixels=12"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = write_videos(tmp_path_factory.mktemp("cli") / "videos", 2)
    write_video(str(folder / "noise.mp4"), noise())
    return folder


def test_tokenize_writes_what_generate_writes(videos, tmp_path):
    told = result("tokenize", videos, *QUICK, "-o", tmp_path)
    assert files_under(tmp_path) == {"0.traj.png", "1.traj.png", "noise.traj.png"}
    assert told["failures"] == told["skipped"] == []
    settings = TrajectoryGenerator(max_trajectories=4, short_side=32, num_superpixels=12).to_dict()
    generated = ClipGenerator(GenerationSettings(settings, num_frames=3))(str(videos / "0.mp4"), None)
    assert (tmp_path / "0.traj.png").read_bytes() == generated.trajectories
    first = told["outputs"][0]
    loaded = Trajectories.load(first["output"])
    assert (first["trajectories"], first["frames"]) == (loaded.num_trajectories, loaded.num_frames)
    assert first["coverage"] == pytest.approx(loaded.coverage, abs=1e-4)


def test_tokenize_goes_on_where_an_input_is_bad(videos, tmp_path):
    good, bad = tmp_path / "good.mp4", tmp_path / "bad.mp4"
    good.write_bytes((videos / "0.mp4").read_bytes())
    bad.write_bytes(b"no video")
    (tmp_path / "good.avi").write_bytes(good.read_bytes())
    (tmp_path / "empty").mkdir()
    named = [good, bad, tmp_path / "good.avi", tmp_path / "none.mp4", tmp_path / "empty", tmp_path / "z*.mp4"]
    told = result("tokenize", *named, *QUICK, code=1)
    assert [one["input"] for one in told["outputs"]] == [str(good)]
    reasons = {each["input"]: each["error"] for each in told["failures"]}
    assert set(reasons) == {str(path) for path in named[1:]}
    assert "as " + str(good) in reasons[str(named[2])]
    assert "does not exist" in reasons[str(named[3])]
    assert "has no videos or images" in reasons[str(named[4])]
    assert "matches no video or image" in reasons[str(named[5])]
    assert files_under(tmp_path) == {"good.mp4", "good.avi", "bad.mp4", "good.traj.png"}
    # Without JSON the same is on standard error, and a line for each file on standard output.
    done = trajvit("tokenize", good, bad, *QUICK)
    assert done.exit_code == 1
    assert done.stdout.split("\t")[0] == str(tmp_path / "good.traj.png")
    assert done.stdout.count("\n") == 1
    assert str(bad) in done.stderr


def test_tokenize_takes_patterns_and_images_and_keeps_folders(videos, tmp_path):
    inside = tmp_path / "in" / "deep"
    inside.mkdir(parents=True)
    Image.fromarray(noise()[0]).save(inside / "still.jpg")
    (inside / "clip.mp4").write_bytes((videos / "1.mp4").read_bytes())
    result("tokenize", tmp_path / "in", *QUICK, "-o", tmp_path / "out", "--media", "image")
    assert files_under(tmp_path / "out") == {"deep/still.traj.png"}
    assert Trajectories.load(tmp_path / "out" / "deep" / "still.traj.png").num_frames == 1
    # A trajectories file beside an image is none itself.
    told = result("tokenize", tmp_path / "in" / "**" / "*.*", *QUICK)
    assert len(told["outputs"]) == 2
    before = (inside / "clip.traj.png").stat().st_mtime_ns
    told = result("tokenize", tmp_path / "in", *QUICK, "--skip-existing")
    assert (len(told["outputs"]), len(told["skipped"])) == (0, 2)
    assert (inside / "clip.traj.png").stat().st_mtime_ns == before


def test_draw_writes_what_the_suffix_says(videos, tmp_path):
    names = ["a.mp4", "b.gif", "c.webp", "sheet.png"]
    outputs = [part for name in names for part in ("-o", tmp_path / name)]
    told = result(
        "draw", videos / "0.mp4", *QUICK, *outputs, "--timeline", tmp_path / "t.png", "--drawn-short-side", 64
    )
    assert told["outputs"] == [str(tmp_path / name) for name in [*names, "t.png"]]
    assert files_under(tmp_path) == {*names, "t.png"}
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == told["frames"] == 3
    plain = decode_video(str(videos / "0.mp4"), 3).sampled
    assert np.abs(np.stack(frames).astype(int) - plain).mean() > 20
    assert [Image.open(tmp_path / name).n_frames for name in ("b.gif", "c.webp")] == [3, 3]
    assert Image.open(tmp_path / "sheet.png").size[0] > 1000


def test_draw_takes_trajectories_of_frames_anywhere_in_the_video(videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    video = decode_video(str(videos / "noise.mp4"), None)
    ids = np.zeros((2, 32, 32), np.int32)
    ids[:, :16] = 1
    numbers = np.array([1, 6])
    Trajectories(ids, numbers, video.timestamps[numbers]).save("odd.traj.png")
    told = result("draw", videos / "noise.mp4", "--trajectories", "odd.traj.png", "--alpha", 0, "--no-boundaries")
    assert told["outputs"] == ["noise.trajectories.mp4"]
    shown = decode_video("noise.trajectories.mp4", None).frames
    # Without colours and lines these are the frames themselves, coded twice.
    error = np.abs(shown.astype(int)[:, None] - video.frames[None]).mean((2, 3, 4))
    assert error.argmin(1).tolist() == [1, 6]
    Trajectories(ids, [1, 60], [0.0, 9.0]).save("late.traj.png")
    done = trajvit("draw", videos / "noise.mp4", "--trajectories", "late.traj.png")
    assert done.exit_code == 1
    assert "is of frame 60, which" in done.stderr
    assert files_under(tmp_path) == {"odd.traj.png", "late.traj.png", "noise.trajectories.mp4"}


def test_embed_writes_the_models_vectors(videos, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    file = tmp_path / "out" / "vectors.safetensors"
    told = result("embed", videos, tmp_path / "bad.mp4", "-o", file, "--device", "cpu", code=1)
    assert [each["input"] for each in told["failures"]] == [str(tmp_path / "bad.mp4")]
    paths = [str(videos / name) for name in ("0.mp4", "1.mp4", "noise.mp4")]
    with safe_open(file, "pt") as content:
        vectors, metadata = content.get_tensor("embeddings"), content.metadata()
    assert json.loads(metadata["paths"]) == paths == told["paths"]
    assert metadata["model"] == "tiny_synthetic"
    model, processor = (
        TrajViTForContrastive.from_pretrained(CHECKPOINT).eval(),
        TrajViTProcessor.from_pretrained(CHECKPOINT),
    )
    with torch.no_grad():
        pooled = model.get_video_features(**processor(videos=paths)).pooler_output
    expected = torch.nn.functional.normalize(pooled, dim=-1)
    assert torch.allclose(vectors, expected, atol=1e-4)
    printed = result("embed", videos / "0.mp4", "--device", "cpu")
    assert printed["embeddings"][0] == pytest.approx(vectors[0].tolist(), abs=1e-5)


def test_embed_by_a_tower_alone_gives_its_pooled_output(videos, tmp_path):
    save_checkpoint(tmp_path / "all", "trajvit")
    tower = TrajViTForContrastive.from_pretrained(tmp_path / "all").vision_model
    tower.save_pretrained(tmp_path / "tower")
    processor = make_processor("trajvit").video_processor
    processor.save_pretrained(tmp_path / "tower")
    printed = result("embed", videos / "0.mp4", "-m", tmp_path / "tower", "--device", "cpu")
    with torch.no_grad():
        model = TrajViTModel.from_pretrained(tmp_path / "tower").eval()
        expected = model(**processor([str(videos / "0.mp4")], return_tensors="pt")).pooler_output[0]
    assert printed["embeddings"][0] == pytest.approx(expected.tolist(), abs=1e-4)
    assert printed["width"] == len(expected)
