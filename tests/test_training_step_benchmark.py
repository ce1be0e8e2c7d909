"""The benchmark of training steps counts what is known in advance, goes on where it was, and writes its page."""

import gc
import json
import pickle
from dataclasses import asdict

import numpy as np
import pytest
import torch
import training_step
from training_clips import SIZE, ClipFiles, write_trajectories
from training_step import Case

from trajvit.processing.video_writing import write_video

TINY = {"size": "tiny", "frames": 2, "trajectories": 8, "batch": 2, "chunk_size": None, "captions": 2}
PLAIN = {"augment": False, "device": "cpu", "precision": "no", "threads": 1, "workers": 0}


@pytest.fixture(autouse=True, scope="module")
def _same_threads():
    """The script sets the process's threads, and searches it for garbage: quickly, without what is there."""
    threads = torch.get_num_threads()
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder of results with clips in it: 4 frames of noise each."""
    folder = tmp_path_factory.mktemp("results")
    for number in range(training_step.CLIPS):
        noise = np.random.default_rng(number).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)
        write_video(folder / "training_clips" / f"scene{number}.mp4", noise, 24)
    write_trajectories(folder / "training_clips", training_step.CLIPS, 2, 8)
    return folder


def test_a_clip_has_as_many_frames_and_trajectories_as_asked_for(results):
    # Workers get a copy.
    source = pickle.loads(pickle.dumps(ClipFiles(results / "training_clips", 2, 2, 8)))
    first, second, third = (source.read(row) for row, _ in zip(source.rows(0), range(3), strict=False))
    assert first.frames.shape == (2, SIZE, SIZE, 3)
    assert first.trajectories.ids.shape == (2, SIZE, SIZE)
    assert np.unique(first.trajectories.ids).tolist() == [*range(1, 9)]
    assert not np.array_equal(first.frames, second.frames)
    assert np.array_equal(first.frames, third.frames)
    assert (first.key, third.key) == ("00000", "00002")
    assert ClipFiles(results / "training_clips", 2, 2, None).read({"key": "a", "number": 0}).trajectories is None


class TestMeasuring:
    @pytest.mark.parametrize(("tower", "tokens"), [("trajvit", 9), ("vit3d", 197)])
    def test_a_tower(self, results, tower, tokens):
        case = Case(tower=tower, **TINY, **PLAIN)
        found = training_step.measure(case, results / "training_clips", 2)
        assert found["tokens"] == tokens
        # Single precision: a weight, its gradient and two moments.
        assert found["state_mb"] * 1e6 == pytest.approx(16 * found["parameters"], rel=5e-3)
        assert len(found["step_s"]) == len(found["wait_s"]) == 2
        assert all(0 < wait < step for wait, step in zip(found["wait_s"], found["step_s"], strict=True))
        # A step keeps at least the first layer's output of all tokens.
        assert found["beyond_mb"] * 1e6 > 2 * tokens * 128 * 4
        assert found["resident_mb"] > found["state_mb"]

    def test_chunks_need_less_memory(self, results):
        whole = Case(tower="vit3d", **{**TINY, "batch": 4}, **PLAIN)
        chunked = Case(tower="vit3d", **{**TINY, "batch": 4, "chunk_size": 1}, **PLAIN)
        found = [training_step.measure(case, results / "training_clips", 1) for case in (whole, chunked)]
        assert found[1]["beyond_mb"] < 0.8 * found[0]["beyond_mb"]
        assert found[1]["state_mb"] == found[0]["state_mb"]


def test_a_run_in_a_process_goes_on_where_it_was(results, capsys):
    output = results / "run.jsonl"
    run = ["--size", "tiny", "--frames", "2", "--trajectories", "8", "--towers", "trajvit", "--repeats", "1"]
    run += ["--threads", "1", "--output", str(output)]
    training_step.main([*run, "--workers", "0", "--augment"])
    assert "T=2: trajvit\n" in capsys.readouterr().out
    (record,) = training_step.read_records(output)
    assert (record["tower"], record["workers"], record["augment"]) == ("trajvit", 0, True)
    assert 1 <= record["tokens"] <= 9
    training_step.main([*run, "--workers", "0", "--augment"])
    printed = capsys.readouterr().out
    assert "T=2" not in printed
    assert f"| `trajvit` | {record['parameters'] / 1e6:.1f} M |" in printed


def record(tower, **fields):
    case = asdict(Case(tower=tower, **TINY, **PLAIN))
    numbers = {"parameters": 2_000_000, "tokens": 10.0, "step_s": [0.5, 0.4, 9.0], "wait_s": [0.1, 0.0, 0.89]}
    return {**case, **numbers, "state_mb": 32.0, "beyond_mb": 8.0, "resident_mb": 900.0, **fields}


class TestRecords:
    def test_fewer_steps_than_wanted_are_measured_again(self):
        case = Case(tower="trajvit", **TINY, **PLAIN)
        records = [record("vit3d"), record("trajvit")]
        assert training_step.record_of(case, records, 3) is records[1]
        assert training_step.record_of(case, records, 4) is None
        assert training_step.record_of(case, [{**records[1], "batch": 3}], 1) is None

    def test_a_failure_is_not_measured_again(self):
        case = Case(tower="trajvit", **TINY, **PLAIN)
        failed = {**asdict(case), "failed": "out of memory"}
        assert training_step.record_of(case, [failed], 3) is failed


class TestReport:
    def records(self):
        dense = record("vit3d", tokens=100.0, step_s=[2.5], wait_s=[0.0], state_mb=30.0, beyond_mb=50.0)
        failed = {**asdict(Case(tower="image_vit", **TINY, **PLAIN)), "failed": "out of memory"}
        return [failed, record("trajvit"), dense]

    def test_table(self):
        rows = training_step.table(self.records()).splitlines()[2:]
        assert rows[0] == "| `image_vit` | out of memory |" + " - |" * 10
        assert rows[1] == "| `trajvit` | 2.0 M | 10 | 0.500 | 4.000 | 5.00 | 40 | 10.0% | 32 | 8 | 40 | 900 |"
        assert rows[2] == "| `vit3d` | 2.0 M | 100 | 2.500 | 0.800 | 1.00 | 80 | 0.0% | 30 | 50 | 80 | 900 |"

    def test_other_settings_are_not_compared(self):
        records = [record("trajvit"), record("vit3d", batch=4)]
        assert training_step.table(records).splitlines()[2].split(" | ")[5] == "-"

    def test_sentence(self):
        assert training_step.finding(self.records()) == (
            "- T = 2: TrajViT trains 5.0 times as many samples a second as ViT3D. Beyond the model's state ViT3D needs "
            "6.2 times the memory of TrajViT, with it 2.0 times."
        )
        assert training_step.finding(self.records()[:2]) == ""

    def test_the_page(self, tmp_path):
        page, output = tmp_path / "page.md", tmp_path / "results.jsonl"
        page.write_text("before\n<!-- training: begin -->\nold\n<!-- training: end -->\nafter\n")
        chunked = [record("vit3d", chunk_size=1)]
        output.write_text("".join(json.dumps(line) + "\n" for line in self.records() + chunked))
        for _ in range(2):
            training_step.main(["--page", str(page), "--output", str(output)])
        text = page.read_text()
        assert "old" not in text
        heading = "### `tiny`, 2 frames, batch 2, cpu, mixed precision no\n"
        assert text.startswith(f"before\n<!-- training: begin -->\n{heading}")
        settings = "TrajViT with 8 trajectories, 2 captions a sample, 1 thread, 0 loading processes"
        assert f"\n{settings}; median of 1 to 3 steps.\n" in text
        assert text.count("### `tiny`") == 2
        assert "batch 2, in chunks of 1, cpu" in text
        assert text.index("| `trajvit`") < text.index("| `vit3d`") < text.index("| `image_vit`")
