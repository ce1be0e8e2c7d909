"""How many threads decode a video: what the caller says, and never which frames there are."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from numbered_videos import numbers_of, write_numbered, write_video

from trajvit.processing.decoding import decode_video


class CountingFile(io.BytesIO):
    """A file that notes how many threads its process has whenever it is read."""

    most = 0

    def read(self, *size):
        self.most = max(self.most, len(os.listdir("/proc/self/task")))
        return super().read(*size)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return Path(write_numbered(tmp_path_factory.mktemp("threads") / "video.mp4", 60)).read_bytes()


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
def test_a_decoder_has_the_threads_that_are_asked_for(tmp_path):
    # Noise, so that the file is too large to be read at once, before the decoder starts.
    noise = np.random.default_rng(0).integers(0, 256, (30, 96, 96, 3), dtype=np.uint8)
    video = Path(write_video(str(tmp_path / "noise.mp4"), noise)).read_bytes()
    most = {}
    for threads in (1, 3, 5):
        file = CountingFile(video)
        before = len(os.listdir("/proc/self/task"))
        decode_video(file, 8, threads=threads)
        most[threads] = file.most - before
    # Beside the decoder's there may be those that convert frames.
    assert most[1] == 0
    assert 3 <= most[3] < most[5]


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_do_not_change_the_frames(video, threads):
    expected, frames = decode_video(video, 16), decode_video(video, 16, threads=threads)
    assert numbers_of(frames.frames) == frames.frame_indices.tolist()
    assert np.array_equal(frames.frames, expected.frames)


@pytest.mark.parametrize("threads", [0, -1])
def test_fewer_than_one_is_refused(video, threads):
    with pytest.raises(ValueError, match=f"threads must be at least 1, or None, got {threads}"):
        decode_video(video, threads=threads)
