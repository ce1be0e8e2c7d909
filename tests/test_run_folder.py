"""A run's folder keeps its configuration and goes on with no other."""

import pytest

from trajvit.training.config_file import ConfigError, build_config, load_config
from trajvit.training.run_folder import open_run_folder


def make_config(folder, **changes):
    data = [{"name": "videos", "source": "synthetic", "num_samples": 64}]
    return build_config({"output_dir": str(folder / "run"), "data": data, **changes})


def test_the_resolved_configuration_is_saved(tmp_path):
    config = make_config(tmp_path, seed=4)
    folder = open_run_folder(config)
    assert folder == tmp_path / "run"
    assert load_config(folder / "config.yaml") == config


def test_the_same_run_goes_on_with_other_workers_and_logs(tmp_path):
    open_run_folder(make_config(tmp_path))
    changed = make_config(
        tmp_path,
        loader={"num_workers": 0, "prefetch": 2},
        checkpoints={"every": 5},
        logging={"every": 1},
        hub={"model_id": "me/model"},
        evaluation={"data": {"name": "held_out", "source": "synthetic", "split": "test"}},
    )
    assert load_config(open_run_folder(changed) / "config.yaml") == changed


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"optimizer": {"betas": [0.9, 0.98]}}, r"optimizer.betas: \[0.9, 0.999\] there, \[0.9, 0.98\] here"),
        ({"loader": {"shuffle_block": 2}}, "loader.shuffle_block: 1024 there, 2 here"),
        ({"data": [{"name": "videos", "source": "synthetic", "num_samples": 65}]}, "data.videos.num_samples: 64 there"),
        ({"data": [{"name": "clips", "source": "synthetic", "num_samples": 64}]}, "data.clips.name: None there"),
        ({"model": {"checkpoint": "m"}, "lora": {"rank": 8}}, "lora.rank: None there, 8 here"),
    ],
)
def test_another_configuration_is_refused_and_its_differences_named(tmp_path, changes, said):
    folder = open_run_folder(make_config(tmp_path))
    before = (folder / "config.yaml").read_text()
    with pytest.raises(ConfigError, match=said) as error:
        open_run_folder(make_config(tmp_path, **changes))
    assert "another output_dir" in str(error.value)
    assert (folder / "config.yaml").read_text() == before
