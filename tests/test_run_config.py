"""Configuration files of runs: defaults from the paper, overrides, and errors that name the key and legal values."""

import re
from pathlib import Path

import pytest
import yaml

from trajvit.modeling_trajvit.vision_tower_configs import VISION_TOWER_CONFIGS
from trajvit.training.config_file import ConfigError, build_config, load_config, save_config, to_mapping

CONFIGS = Path(__file__).resolve().parent.parent / "training" / "configs"
RUNS = sorted(CONFIGS.glob("*.yaml"))
SYNTHETIC = {"output_dir": "run", "data": [{"name": "videos", "source": "synthetic", "num_samples": 64}]}


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(SYNTHETIC))
    return path


def test_the_paper_s_run_has_the_values_of_table_1():
    config = load_config(CONFIGS / "trajvit_large_panda.yaml")
    vision = VISION_TOWER_CONFIGS[config.model.tower].from_name(config.model.size)
    assert (vision.hidden_size, vision.num_hidden_layers, vision.num_attention_heads) == (1024, 24, 16)
    assert vision.image_size == 224
    (stream,) = config.data
    assert (stream.num_frames, stream.batch_size) == (16, 256)
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.betas) == (1e-4, 0.02, (0.9, 0.999))
    assert (optimizer.epochs, optimizer.warmup_epochs, optimizer.clip_norm) == (30, 1, 1.0)
    augmentation = config.augmentation
    assert augmentation.crop_scale == (0.2, 1.0)
    assert augmentation.crop_ratio == pytest.approx((3 / 4, 4 / 3))
    probabilities = augmentation.flip, augmentation.color_jitter, augmentation.blur, augmentation.grayscale
    assert probabilities == (0.5, 0.8, 0.5, 0.2)
    assert config.mixed_precision == "bf16"
    joint = {stream.name: stream for stream in load_config(CONFIGS / "trajvit_large_panda_datacomp.yaml").data}
    assert (joint["panda70m"].batch_size, joint["datacomp"].batch_size) == (256, 4096)
    assert joint["datacomp"].media == "image"


def test_defaults_are_the_paper_s_run():
    paper = to_mapping(load_config(CONFIGS / "trajvit_large_panda.yaml"))
    defaults = to_mapping(build_config({"output_dir": paper["output_dir"], "data": paper["data"]}))
    assert paper == defaults


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_shipped_configurations_are_legal_and_write_to_their_own_folder(path):
    config = load_config(path)
    assert config.output_dir == f"runs/{path.stem}"
    assert config.model.tower in VISION_TOWER_CONFIGS


def test_every_tower_has_a_twin_of_the_paper_s_run():
    paper = to_mapping(load_config(CONFIGS / "trajvit_large_panda.yaml"))
    towers = set()
    for path in CONFIGS.glob("*_large_panda.yaml"):
        twin = to_mapping(load_config(path))
        towers.add(twin["model"]["tower"])
        twin["model"]["tower"], twin["output_dir"] = paper["model"]["tower"], paper["output_dir"]
        assert twin == paper
    assert towers == set(VISION_TOWER_CONFIGS)


@pytest.mark.parametrize("tower", ["trajvit", "vit3d"])
def test_the_scaling_study_s_subsets(tower):
    for millions in (2, 4, 8):
        (stream,) = load_config(CONFIGS / f"{tower}_large_panda_{millions}m.yaml").data
        assert stream.subset == millions * 10**6


def test_a_resolved_configuration_reads_back_the_same(tmp_path):
    config = load_config(CONFIGS / "tiny_synthetic.yaml", ["data.images.batch_size=16", "seed=3"])
    save_config(config, tmp_path / "resolved.yaml")
    assert load_config(tmp_path / "resolved.yaml") == config
    assert set(yaml.safe_load((tmp_path / "resolved.yaml").read_text())["optimizer"]) > {"betas", "eps", "clip_norm"}


def test_overrides_reach_nested_values_and_elements_of_lists(config_file):
    config = load_config(
        config_file,
        ["optimizer.learning_rate=3e-4", "data.videos.batch_size=8", "data.0.weight=2", "hub={model_id: me/model}"],
    )
    assert config.optimizer.learning_rate == 3e-4
    assert (config.data[0].batch_size, config.data[0].weight) == (8, 2.0)
    assert config.hub.model_id == "me/model"
    assert config.optimizer.weight_decay == 0.02


def test_a_file_changes_the_one_it_extends(tmp_path, config_file):
    (tmp_path / "more.yaml").write_text("extends: run.yaml\noptimizer: {epochs: 2}\nseed: 5")
    (tmp_path / "most.yaml").write_text("extends: more.yaml\noptimizer: {learning_rate: 1e-3}")
    config = load_config(tmp_path / "most.yaml")
    assert (config.seed, config.optimizer.epochs, config.optimizer.learning_rate) == (5, 2, 1e-3)
    assert config.data[0].name == "videos"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimizer.learning_rat=1", "optimizer.learning_rat: there is no such key.*'learning_rate'"),
        ("evaluation.data.nam=1", "evaluation.data.nam: there is no such key.*'num_samples'"),
        ("optimizer.learning_rate=-1", "optimizer.learning_rate=-1: .*greater than 0"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate='fast': .*number"),
        ("optimizer.betas=[0.9, 1.5]", "optimizer.betas.1=1.5: .*less than or equal to 1"),
        ("mixed_precision=fp8", "mixed_precision='fp8': .*'no', 'bf16' or 'fp16'"),
        ("model.batch_norm=off", "model.batch_norm=False: .*'frozen', 'batch' or 'synchronised'"),
        ("model.text={hidden_size: 8}", "text_checkpoint='google-bert/bert-base-uncased'.*null"),
        ("data.videos.source=youtube", "data.0.source='youtube': .*'panda70m', 'datacomp', 'table' or 'synthetic'"),
        ("data.videos.source=table", "path=None with source='table'"),
        ("data.videos.columns={film: mp4}", "data.0.columns.film.*'media', 'captions', 'trajectories' or 'key'"),
        ("data.videos.subset=65", "subset=65 needs num_samples"),
        ("data.images.weight=1", "data.images: there is no element 'images', expected one of .*'videos'"),
        ("data=[]", "data: .*at least 1 item"),
        ("augmentation.crop_scale=[1, 0.2]", "crop_scale=.*low <= high"),
        ("lora={rank: 8}", "lora adapts a checkpoint: expected model.checkpoint"),
        ("lora.rank=0", "lora.rank=0: .*greater than or equal to 1"),
        ("seed", "'seed' is no override: expected key=value"),
        ("seed.first=1", "seed.first|seed: "),
        ("data.videos.name.first=1", "data.videos.name is 'videos', expected a mapping or a list"),
    ],
)
def test_errors_name_the_key_and_what_is_legal(config_file, override, said):
    with pytest.raises(ConfigError) as error:
        load_config(config_file, [override])
    assert re.search(said, str(error.value), re.DOTALL), str(error.value)


def test_every_fault_gets_a_line(config_file):
    with pytest.raises(ConfigError) as error:
        load_config(config_file, ["seed=-1", "loss.chunk_size=0", "checkpoints.keep=none"])
    assert [line.split("=")[0].strip() for line in str(error.value).splitlines()[1:]] == [
        "seed",
        "loss.chunk_size",
        "checkpoints.keep",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- b", "holds list: expected a mapping"),
        ("a: [", "is no YAML"),
        ("extends: run.yaml", "extends itself"),
        ("extends: elsewhere.yaml", "elsewhere.yaml cannot be read"),
        ("output_dir: x", "data: is missing"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, text, said):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_config(path)


def test_streams_have_names_of_their_own():
    stream = SYNTHETIC["data"][0]
    with pytest.raises(ConfigError, match="names \\['videos', 'videos'\\]: expected one of each"):
        build_config({**SYNTHETIC, "data": [stream, stream]})
