"""Runs that meet bad clips, stop and go on, in one process: what is recorded, kept, made again and refused."""

import json
import os
import tarfile
from pathlib import Path

import pytest
from generation_runs import (
    expected,
    failures,
    generate_here,
    generator,
    outputs,
    tar_contents,
    write_folder,
    write_shards,
)
from numbered_videos import write_numbered
from shard_files import image_bytes, sample, tar_bytes, video_bytes, write_tar

from trajvit.processing import atomic_files
from trajvit.processing.dataset_generation import StoredFrames
from trajvit.processing.generation_folder import GenerationFolder
from trajvit.processing.generation_plan import find_input, plan_tasks
from trajvit.processing.generation_settings import GenerationSettings
from trajvit.processing.shard_generation import ShardGenerator
from trajvit.processing.trajectories import Trajectories


@pytest.fixture
def generate(monkeypatch):
    return lambda *args, **settings: generate_here(monkeypatch, *args, **settings)


def notes(folder, name):
    return json.loads((folder / "__generation__" / name).read_text())


def events(folder, event):
    lines = (folder / "__generation__" / "log.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == event]


class TestBadClips:
    def test_each_costs_itself_alone(self, generate, tmp_path):
        files = [
            *sample("000", number=10),
            ("001.mp4", b"no video"),
            ("002.txt", b"no media"),
            ("003.mp4", video_bytes(30)[:700]),
            ("004.mp4", b""),
            *sample("005", number=40),
            *sample("006", number=50),
        ]
        write_tar(tmp_path / "in" / "0.tar", files)
        summary = generate(tmp_path / "in", tmp_path / "out", generator=generator(fails_at=[42]))
        assert (summary.clips, summary.failures, summary.new_clips) == (2, 5, 7)
        assert {name.split(".")[0] for name in tar_contents(tmp_path / "out" / "0.tar")} == {"000", "006"}
        found = failures(tmp_path / "out")
        assert [(key, stage) for key, stage, _ in found] == [
            ("001", "decode"),
            ("002", "read"),
            ("003", "decode"),
            ("004", "decode"),
            ("005", "track"),
        ]
        reasons = [reason for _, _, reason in found]
        assert "expected a video or an image" in reasons[0]
        assert reasons[1].startswith("has no video or image among txt")
        assert reasons[3] == "its media is empty"
        assert reasons[4] == "ValueError: cannot track 42"
        assert [event["key"] for event in events(tmp_path / "out", "failed")] == ["001", "002", "003", "004", "005"]

    def test_a_truncated_archive_costs_its_rest(self, generate, tmp_path):
        write_shards(tmp_path / "in", [10, 20, 30], [40])
        path = tmp_path / "in" / "0.tar"
        with tarfile.open(path) as archive:
            third = archive.getmembers()[6].offset
        path.write_bytes(path.read_bytes()[: third + 600])
        summary = generate(tmp_path / "in", tmp_path / "out")
        assert (summary.clips, summary.failures, summary.shards) == (3, 1, 2)
        ((key, stage, reason),) = failures(tmp_path / "out")
        assert (key, stage) == ("0.tar", "shard")
        assert "cannot be read any further" in reason
        assert {name.split(".")[0] for name in tar_contents(tmp_path / "out" / "0.tar")} == {"000", "001"}

    def test_an_unreadable_shard_costs_itself_alone(self, generate, tmp_path):
        write_shards(tmp_path / "in", [10])
        (tmp_path / "in" / "1.tar").write_bytes(b"no archive")
        summary = generate(tmp_path / "in", tmp_path / "out")
        assert (summary.clips, summary.failures, summary.shards) == (1, 1, 2)
        assert [(key, stage) for key, stage, _ in failures(tmp_path / "out")] == [("1.tar", "shard")]
        # A shard without any clip is no file.
        assert list(outputs(tmp_path / "out")) == ["0.tar"]

    def test_a_key_twice(self, generate, tmp_path):
        # In compressed archives samples are known by files that lie side by side.
        import gzip

        files = [*sample("000", number=10), *sample("001", number=20), *sample("000", number=30)]
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "0.tar.gz").write_bytes(gzip.compress(tar_bytes(files)))
        assert generate(tmp_path / "in", tmp_path / "out").clips == 2
        ((key, stage, reason),) = failures(tmp_path / "out")
        assert (key, stage) == ("000", "read")
        assert "key of an earlier sample" in reason

    def test_what_is_damaged_but_usable_is_told(self, generate, tmp_path):
        # No frame depends on another, and the index comes first.
        intra_only = {"codec": "mjpeg", "pix_fmt": "yuvj420p", "muxing": {"movflags": "faststart"}}
        data = Path(write_numbered(tmp_path / "whole.mp4", 30, **intra_only)).read_bytes()
        write_tar(tmp_path / "in" / "0.tar", [("000.mp4", data[: len(data) // 2])])
        summary = generate(tmp_path / "in", tmp_path / "out")
        told = events(tmp_path / "out", "damaged_clip")
        assert (summary.clips, len(told)) == (1, 1)
        assert "of its 30 frames are lost" in told[0]["warning"]

    def test_a_lost_device_is_no_fault_of_a_clip(self, generate, tmp_path):
        write_shards(tmp_path / "in", [10])
        with pytest.raises(RuntimeError, match="CUDA error"):
            generate(tmp_path / "in", tmp_path / "out", generator=generator(lost_at=[12]))


class TestGoingOn:
    def test_nothing_is_done_twice(self, generate, tmp_path):
        write_shards(tmp_path / "in", [10, 20], [30])
        first = generate(tmp_path / "in", tmp_path / "out")
        inodes = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (tmp_path / "out").glob("*.tar")}
        second = generate(tmp_path / "in", tmp_path / "out")
        assert (second.new_shards, second.new_clips) == (0, 0)
        assert (second.clips, second.statistics.to_dict()) == (first.clips, first.statistics.to_dict())
        assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in inodes} == inodes

    def test_a_job_that_is_given_again_is_not_done_again(self, generate, tmp_path):
        """As Ray does when the result of one is lost."""
        write_shards(tmp_path / "in", [10])
        generate(tmp_path / "in", tmp_path / "out")
        settings = GenerationSettings.from_dict(notes(tmp_path / "out", "settings.json")["settings"])
        (task,) = plan_tasks(find_input(str(tmp_path / "in"), settings), settings)
        inode = (tmp_path / "out" / "0.tar").stat().st_ino
        for retry in (False, True):
            record = ShardGenerator(settings, tmp_path / "out")(task, retry)
            assert record.to_dict() == notes(tmp_path / "out", "shards/0.tar.json")
        assert (tmp_path / "out" / "0.tar").stat().st_ino == inode

    @pytest.mark.parametrize("step", range(8))
    def test_a_run_may_break_off_at_any_rename(self, generate, monkeypatch, tmp_path, step):
        """The settings, the plan, then a record and an archive for each of three shards."""
        write_shards(tmp_path / "in", [10, 20], [30], [40])
        generate(tmp_path / "in", tmp_path / "whole")
        replace, num_calls = os.replace, 0

        def breaking(source, target):
            nonlocal num_calls
            num_calls += 1
            if num_calls == step + 1:
                raise KeyboardInterrupt
            replace(source, target)

        monkeypatch.setattr(atomic_files.os, "replace", breaking)
        with pytest.raises(KeyboardInterrupt):
            generate(tmp_path / "in", tmp_path / "out")
        monkeypatch.setattr(atomic_files.os, "replace", replace)
        assert GenerationFolder(tmp_path / "out").running() == []
        finished = set(outputs(tmp_path / "out"))
        assert all(outputs(tmp_path / "out")[name] == outputs(tmp_path / "whole")[name] for name in finished)
        summary = generate(tmp_path / "in", tmp_path / "out")
        assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")
        assert summary.new_shards == 3 - max(0, (step - 1) // 2)
        assert not list((tmp_path / "out" / "__generation__" / "parts").iterdir())

    def test_a_record_without_its_file_yet_is_completed(self, generate, monkeypatch, tmp_path):
        """As if the machine went down between the two renames: nothing in this process tidies up."""
        write_shards(tmp_path / "in", [10])
        generate(tmp_path / "in", tmp_path / "out")
        record = notes(tmp_path / "out", "shards/0.tar.json")
        part = tmp_path / "out" / "__generation__" / "parts" / record["files"]["0.tar"]["part"]
        before = outputs(tmp_path / "out")
        (tmp_path / "out" / "0.tar").rename(part)
        assert generate(tmp_path / "in", tmp_path / "out").new_shards == 0
        assert outputs(tmp_path / "out") == before
        assert not part.exists()
        # The same with a part that was not written whole.
        data = (tmp_path / "out" / "0.tar").read_bytes()
        (tmp_path / "out" / "0.tar").unlink()
        part.write_bytes(data[:-1] + b"\1")
        assert generate(tmp_path / "in", tmp_path / "out").new_shards == 1
        assert outputs(tmp_path / "out") == before

    def test_a_missing_or_short_file_is_made_again(self, generate, tmp_path):
        write_shards(tmp_path / "in", [10], [20])
        generate(tmp_path / "in", tmp_path / "out")
        before = outputs(tmp_path / "out")
        (tmp_path / "out" / "0.tar").unlink()
        (tmp_path / "out" / "1.tar").write_bytes(before["1.tar"][:-512])
        assert generate(tmp_path / "in", tmp_path / "out").new_shards == 2
        assert outputs(tmp_path / "out") == before

    def test_verifying_finds_flipped_bits(self, generate, tmp_path):
        write_shards(tmp_path / "in", [10], [20])
        generate(tmp_path / "in", tmp_path / "out")
        before = outputs(tmp_path / "out")
        data = bytearray(before["1.tar"])
        data[700] ^= 1
        (tmp_path / "out" / "1.tar").write_bytes(data)
        assert generate(tmp_path / "in", tmp_path / "out").new_shards == 0
        assert generate(tmp_path / "in", tmp_path / "out", verify=True).new_shards == 1
        assert outputs(tmp_path / "out") == before
        assert [event["shard"] for event in events(tmp_path / "out", "damaged")] == ["1.tar"]

    def test_other_settings_are_refused(self, generate, tmp_path):
        write_shards(tmp_path / "in", [10])
        generate(tmp_path / "in", tmp_path / "out")
        for changed, message in (
            ({"num_frames": 4}, "num_frames was 3, is 4"),
            ({"shard_size": 5}, "shard_size was 256, is 5"),
            ({"frames": StoredFrames()}, "frames was None, is"),
            ({"generator": generator("classic")}, "generator.backend was 'quarters', is 'classic'"),
            ({"generator": generator(seconds=1)}, "generator.seconds was None, is 1"),
        ):
            with pytest.raises(ValueError, match=message):
                generate(tmp_path / "in", tmp_path / "out", **changed)

    def test_what_others_made_is_not_overwritten(self, generate, tmp_path):
        write_shards(tmp_path / "in", [10])
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "0.tar").write_bytes(b"precious")
        with pytest.raises(ValueError, match=r"0\.tar is there already"):
            generate(tmp_path / "in", tmp_path / "out")
        assert (tmp_path / "out" / "0.tar").read_bytes() == b"precious"

    def test_one_run_at_a_time(self, generate, tmp_path):
        from trajvit.processing.generation_folder import GenerationFolder

        write_shards(tmp_path / "in", [10])
        folder = GenerationFolder(tmp_path / "out")
        folder.create()
        with folder.locked(), pytest.raises(ValueError, match="another run is writing"):
            generate(tmp_path / "in", tmp_path / "out")
        assert generate(tmp_path / "in", tmp_path / "out").clips == 1


class TestGrowingInput:
    def test_new_shards_and_files_are_added(self, generate, tmp_path):
        write_shards(tmp_path / "in", [10], [20])
        generate(tmp_path / "in", tmp_path / "out")
        write_tar(tmp_path / "in" / "a" / "7.tar", sample("000", number=30))
        assert generate(tmp_path / "in", tmp_path / "out").new_shards == 1
        assert set(outputs(tmp_path / "out")) == {"0.tar", "1.tar", "a/7.tar"}

    def test_new_files_of_a_folder(self, generate, tmp_path):
        folder = write_folder(tmp_path / "clips", [10, 20], captions=False)
        generate(folder, folder)
        (folder / "000.mp4").write_bytes(video_bytes(30))
        summary = generate(folder, folder)
        assert (summary.clips, summary.new_clips) == (3, 1)
        assert Trajectories.load(folder / "000.traj.png") == expected(video_bytes(30))
        (folder / "01.mp4").unlink()
        with pytest.raises(ValueError, match=r"01\.mp4 was part of the input"):
            generate(folder, folder)

    def test_a_shard_that_is_gone_or_changed(self, generate, tmp_path):
        write_shards(tmp_path / "in", [10], [20])
        generate(tmp_path / "in", tmp_path / "out")
        write_shards(tmp_path / "in", range(10, 90, 10))
        with pytest.raises(ValueError, match=r"0\.tar had \d+ bytes when this output was begun and has \d+ now"):
            generate(tmp_path / "in", tmp_path / "out")
        (tmp_path / "in" / "0.tar").unlink()
        with pytest.raises(ValueError, match=r"0\.tar was part of the input"):
            generate(tmp_path / "in", tmp_path / "out")

    def test_the_input_may_move(self, generate, tmp_path):
        write_shards(tmp_path / "in", [10], [20])
        generate(tmp_path / "in", tmp_path / "out")
        (tmp_path / "in").rename(tmp_path / "elsewhere")
        (tmp_path / "out" / "1.tar").unlink()
        summary = generate(tmp_path / "elsewhere", tmp_path / "out")
        assert (summary.new_shards, summary.clips, summary.failures) == (1, 2, 0)


class TestRetrying:
    """A backend of the same settings that fails no more: what failed is done, the rest is not tracked again."""

    @pytest.mark.parametrize("frames", [None, StoredFrames(short_side=24)], ids=["media", "frames"])
    @pytest.mark.parametrize("kind", ["tar", "folder", "parquet", "csv"])
    def test_only_what_failed_is_done(self, generate, monkeypatch, tmp_path, kind, frames):
        import fault_backends

        numbers = [10, 20, 30, 40]
        if kind == "tar":
            inputs = write_shards(tmp_path / "in", numbers)
        elif kind == "parquet":
            import pyarrow as pa
            import pyarrow.parquet

            (tmp_path / "in").mkdir()
            inputs = tmp_path / "in" / "a.parquet"
            pa.parquet.write_table(pa.table({"video": [video_bytes(number) for number in numbers]}), inputs)
        else:
            inputs = write_folder(tmp_path / "in", numbers)
            if kind == "csv":
                inputs = tmp_path / "in" / "list.csv"
                inputs.write_text("path\n" + "\n".join(f"0{index}.mp4" for index in range(4)))
        tracked = []
        track = fault_backends.Quarters.track

        def counting(self, clips, *rest):
            number = fault_backends.number_of(clips[0].frames[0])
            tracked.append(number - 2)
            if number - 2 in failing:
                raise ValueError("out of luck")
            return track(self, clips, *rest)

        monkeypatch.setattr(fault_backends.Quarters, "track", counting)
        failing = []
        whole = generate(inputs, tmp_path / "whole", frames=frames)
        failing = [20, 40]
        generate(inputs, tmp_path / "out", frames=frames)
        assert len(failures(tmp_path / "out")) == 2
        assert outputs(tmp_path / "out") != outputs(tmp_path / "whole")
        failing = [40]
        tracked.clear()
        summary = generate(inputs, tmp_path / "out", frames=frames, retry_failures=True)
        assert tracked == [20, 40]
        assert (summary.clips, summary.new_clips, summary.failures) == (3, 2, 1)
        failing = []
        tracked.clear()
        summary = generate(inputs, tmp_path / "out", frames=frames, retry_failures=True)
        assert tracked == [40]
        assert (summary.new_clips, summary.failures, failures(tmp_path / "out")) == (1, 0, [])
        assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")
        ours, theirs = summary.statistics.to_dict(), whole.statistics.to_dict()
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
        assert generate(inputs, tmp_path / "out", frames=frames, retry_failures=True).new_shards == 0

    @pytest.mark.parametrize("head", ["", "left."])
    def test_stored_frames_are_told_from_other_files(self, generate, monkeypatch, tmp_path, head):
        """Of a PNG, whose frames are stored as JPEG, beside a file that is called as those of a video would be."""
        import fault_backends

        files = []
        for key, number in (("a", 10), ("b", 20)):
            files += [(f"{key}.{head}png", image_bytes(number)), (f"{key}.mp4", b"sound")][: 1 if head else 2]
        write_tar(tmp_path / "in" / "0.tar", files)
        columns = {"media": "left.png", "trajectories": "left.traj.png"} if head else {}
        settings = {"columns": columns, "media": "image", "frames": StoredFrames(24)}
        generate(tmp_path / "in", tmp_path / "whole", **settings)
        assert set(tar_contents(tmp_path / "whole" / "0.tar")) == {
            f"{key}.{suffix}"
            for key in "ab"
            for suffix in [f"{head}jpg", f"{head}traj.png", *([] if head else ["mp4"])]
        }
        track = fault_backends.Quarters.track

        def failing(self, clips, *rest):
            if fault_backends.number_of(clips[0].frames[0]) == 10:
                raise ZeroDivisionError
            return track(self, clips, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(fault_backends.Quarters, "track", failing)
            generate(tmp_path / "in", tmp_path / "out", **settings)
        assert [(key, stage) for key, stage, _ in failures(tmp_path / "out")] == [("a", "track")]
        generate(tmp_path / "in", tmp_path / "out", retry_failures=True, **settings)
        assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")

    def test_what_is_damaged_is_not_taken_over(self, generate, monkeypatch, tmp_path):
        import fault_backends

        write_tar(tmp_path / "in" / "0.tar", [*sample("a", number=10), ("b.mp4", b"no video")])
        generate(tmp_path / "in", tmp_path / "out")
        before = outputs(tmp_path / "out")
        data = bytearray(before["0.tar"])
        data[600] ^= 1
        (tmp_path / "out" / "0.tar").write_bytes(data)
        generate(tmp_path / "in", tmp_path / "out", retry_failures=True)
        assert outputs(tmp_path / "out") == before
        # What is whole is taken over, so that nothing is tracked.
        monkeypatch.setattr(fault_backends.Quarters, "track", None)
        generate(tmp_path / "in", tmp_path / "out", retry_failures=True)
        assert outputs(tmp_path / "out") == before

    def test_a_repaired_shard_is_made_anew(self, generate, tmp_path):
        write_shards(tmp_path / "in", [10, 20, 30], [40])
        whole = (tmp_path / "in" / "0.tar").read_bytes()
        (tmp_path / "in" / "0.tar").write_bytes(whole[: len(whole) // 2])
        generate(tmp_path / "in", tmp_path / "out", shard_size=1)
        assert len(failures(tmp_path / "out")) == 1
        (tmp_path / "in" / "0.tar").write_bytes(whole)
        summary = generate(tmp_path / "in", tmp_path / "out", shard_size=1, retry_failures=True)
        assert (summary.clips, summary.failures) == (4, 0)
        generate(tmp_path / "in", tmp_path / "whole", shard_size=1)
        assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")
