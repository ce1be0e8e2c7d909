"""Where a run may write, which settings are legal, full disks, clips that end processes, and the paper's backend."""

import errno
import json
import os

import pytest
from generation_runs import expected, generate_here, generator, outputs, tar_contents, write_folder, write_shards
from shard_files import sample, video_bytes, write_tar

from trajvit.processing import output_shards
from trajvit.processing.dataset_generation import GenerationFailed, StoredFrames
from trajvit.processing.running_shard import RunningShard, WorkersDied
from trajvit.processing.trajectories import Trajectories


@pytest.fixture
def generate(monkeypatch):
    return lambda *args, **settings: generate_here(monkeypatch, *args, **settings)


class TestPlaces:
    @pytest.mark.parametrize("settings", [{"pack": True}, {"frames": StoredFrames()}], ids=["pack", "frames"])
    def test_the_input_folder_takes_trajectories_alone(self, generate, tmp_path, settings):
        folder = write_folder(tmp_path / "clips", [10])
        with pytest.raises(ValueError, match="lies in the input"):
            generate(folder, folder, **settings)
        assert set(outputs(folder)) == {"00.mp4", "00.txt"}

    def test_no_output_inside_the_input(self, generate, tmp_path):
        write_shards(tmp_path / "in", [10])
        for output in (tmp_path / "in", tmp_path / "in" / "out"):
            with pytest.raises(ValueError, match="lies in the input"):
                generate(tmp_path / "in", output)

    def test_tables_need_hf_datasets_and_others_do_not(self, generate, monkeypatch, tmp_path):
        from trajvit.processing import dataset_files

        monkeypatch.setattr(dataset_files, "find_spec", lambda name: None)
        (tmp_path / "a.parquet").write_bytes(b"")
        for path in (tmp_path / "a.parquet", "owner/name"):
            with pytest.raises(ImportError, match="is read by HF Datasets, which is not installed"):
                generate(path, tmp_path / "out")
        write_shards(tmp_path / "in", [10])
        assert generate(tmp_path / "in", tmp_path / "out").clips == 1

    def test_a_file_is_no_folder(self, generate, tmp_path):
        write_shards(tmp_path / "in", [10])
        (tmp_path / "out").write_text("")
        with pytest.raises(ValueError, match="is a file; expected a folder"):
            generate(tmp_path / "in", tmp_path / "out")

    def test_two_shards_that_would_have_one_name(self, generate, tmp_path):
        write_shards(tmp_path / "in", [10, 20])
        write_tar(tmp_path / "in" / "0-00001.tar", sample("000", number=30))
        with pytest.raises(ValueError, match=r"would both become 0-00001\.tar"):
            generate(tmp_path / "in", tmp_path / "out", shard_size=1)
        # What could not be planned has begun nothing.
        assert generate(tmp_path / "in", tmp_path / "out", shard_size=2).shards == 2

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"num_frames": 0}, "num_frames must be at least 1, got 0"),
            ({"num_frames": 2.5}, "num_frames must be an integer"),
            ({"shard_size": 0}, "shard_size must be at least 1"),
            ({"media": "audio"}, "media must be one of video, image, any, got 'audio'"),
            ({"columns": {"medium": "a"}}, "columns has medium; expected names for media, key, trajectories"),
            ({"workers": 0}, "workers must be an integer of at least 1"),
        ],
    )
    def test_illegal_settings(self, generate, tmp_path, settings, message):
        write_shards(tmp_path / "in", [10])
        with pytest.raises((TypeError, ValueError), match=message):
            generate(tmp_path / "in", tmp_path / "out", **settings)
        assert not (tmp_path / "out").exists()

    def test_stored_frames_have_legal_settings(self):
        for settings, message in (
            ({"short_side": 0}, "short_side must be at least 1"),
            ({"crf": 52}, r"crf must be in 0\.\.51, got 52"),
            ({"quality": True}, "quality must be an integer"),
        ):
            with pytest.raises((TypeError, ValueError), match=message):
                StoredFrames(**settings)


class TestFullDisk:
    def test_nothing_half_written_stays(self, generate, monkeypatch, tmp_path):
        write_shards(tmp_path / "in", [10], [20, 30])
        sync, num_calls = os.fsync, 0

        def full(handle):
            nonlocal num_calls
            num_calls += 1
            if num_calls > 12:
                raise OSError(errno.ENOSPC, "No space left on device")
            sync(handle)

        monkeypatch.setattr(output_shards.os, "fsync", full)
        with pytest.raises(GenerationFailed, match="cannot be written: No space left on device"):
            generate(tmp_path / "in", tmp_path / "out")
        monkeypatch.setattr(output_shards.os, "fsync", sync)
        assert not list((tmp_path / "out" / "__generation__" / "parts").iterdir())
        assert not list((tmp_path / "out" / "__generation__" / "running").iterdir())
        generate(tmp_path / "in", tmp_path / "out")
        generate(tmp_path / "in", tmp_path / "whole")
        assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")


class TestRunningShard:
    """The file that tells at which clip a worker is, and at which ones workers ended."""

    def test_deaths_are_counted_where_they_happened(self, tmp_path):
        path = tmp_path / "a" / "0.tar.json"
        for position in (5, 5, 7, 5):
            running = RunningShard(path, 4)
            running.at(position, position)
        running = RunningShard(path, 4)
        assert [running.deaths(position) for position in (4, 5, 6, 7)] == [0, 3, 0, 1]
        running.finish()
        assert not path.exists()
        assert RunningShard(path, 4).deaths(5) == 0

    def test_a_long_content_is_overwritten_whole(self, tmp_path):
        path = tmp_path / "0.tar.json"
        for position in range(0, 4000, 40):
            RunningShard(path, 0).at(position, 0)
        running = RunningShard(path, 0)
        running.at(1, 1)
        told = json.loads(path.read_text())
        assert (told["position"], len(told["deaths"])) == (1, 100)

    def test_what_ends_processes_though_its_clip_is_left_out_ends_the_run(self, tmp_path):
        path = tmp_path / "0.tar.json"
        for _ in range(4):
            assert RunningShard(path, 7).deaths(7) <= 3
        with pytest.raises(WorkersDied, match=r"4 worker processes ended all at once at record 7 of 0\.tar, "):
            RunningShard(path, 7)
        # The next run is not held up by it.
        assert RunningShard(path, 7).deaths(7) == 0

    def test_a_file_that_was_not_written_whole(self, tmp_path):
        path = tmp_path / "0.tar.json"
        for content in (b"", b"\0" * 256, b'{"deaths": {}}', b"[]"):
            path.write_bytes(content)
            assert RunningShard(path, 3).deaths(3) == 1


class TestSam2:
    """The paper's backend, with a small SAM 2 of random weights."""

    @pytest.fixture(scope="class")
    def settings(self, tmp_path_factory):
        pytest.importorskip("sam2")
        from random_sam2 import save_random_checkpoint

        folder = tmp_path_factory.mktemp("sam2")
        return {
            "checkpoint": str(save_random_checkpoint(folder / "sam2.1_hiera_tiny.pt")),
            "model": "tiny",
            "image_size": 64,
            "device": "cpu",
            "max_segments": 4,
            "segmenter_options": {"points_per_side": 2, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0},
        }

    def test_trajectories_are_those_of_single_videos(self, generate, tmp_path, settings):
        write_shards(tmp_path / "in", [10, 20])
        generate(tmp_path / "in", tmp_path / "out", generator=generator("sam2", **settings))
        contents = tar_contents(tmp_path / "out" / "0.tar")
        made = expected(video_bytes(20), backend="sam2", **settings)
        assert made.num_trajectories >= 1
        assert Trajectories.from_bytes(contents["001.traj.png"]) == made

    def test_missing_weights_end_the_run_and_no_clip(self, generate, tmp_path, settings):
        write_shards(tmp_path / "in", [10])
        missing = {**settings, "checkpoint": str(tmp_path / "nowhere.pt")}
        with pytest.raises(GenerationFailed, match=r"a worker cannot start: FileNotFoundError: .*nowhere\.pt"):
            generate(tmp_path / "in", tmp_path / "out", generator=generator("sam2", **missing))
        assert not outputs(tmp_path / "out")
