"""How many steps a run has, computed by hand."""

import pytest

from trajvit.training.config_file import ConfigError, build_config
from trajvit.training.run_plan import batch_size_of_rank, plan_run


def make_config(streams, **optimizer):
    data = [{"source": "synthetic", **stream} for stream in streams]
    return build_config({"output_dir": "run", "data": data, "optimizer": optimizer})


def test_the_paper_s_8m_clips():
    config = make_config([{"name": "panda", "batch_size": 256}])
    plan = plan_run(config, {"panda": 8_000_000})
    assert (plan.steps_per_epoch, plan.num_steps, plan.warmup_steps) == (31250, 937_500, 31250)
    assert plan.shares == {"panda": 1.0}


def test_two_streams_are_both_seen_once_an_epoch():
    config = make_config([{"name": "videos", "batch_size": 32}, {"name": "images", "batch_size": 64}], epochs=3)
    plan = plan_run(config, {"videos": 320, "images": 1920})
    assert (plan.steps_per_epoch, plan.num_steps) == (10 + 30, 120)
    assert plan.shares == {"videos": 0.25, "images": 0.75}


def test_weights_decide_the_shares():
    config = make_config([{"name": "videos", "weight": 1}, {"name": "images", "weight": 3}], max_steps=8)
    plan = plan_run(config, {"videos": 2560, "images": 256})
    assert plan.shares == {"videos": 0.25, "images": 0.75}
    assert plan.num_steps == 8


def test_batches_that_do_not_divide_the_samples():
    plan = plan_run(make_config([{"name": "v", "batch_size": 32}], epochs=2, warmup_epochs=0.5), {"v": 100})
    assert (plan.steps_per_epoch, plan.num_steps, plan.warmup_steps) == (3.125, 7, 2)


def test_a_warm_up_in_epochs_is_cut_to_a_short_run():
    plan = plan_run(make_config([{"name": "v", "batch_size": 1}], max_steps=5), {"v": 100})
    assert (plan.num_steps, plan.warmup_steps) == (5, 5)


def test_no_warm_up():
    assert plan_run(make_config([{"name": "v"}], warmup_epochs=0), {"v": 1000}).warmup_steps == 0


def test_uncounted_samples():
    streams = [{"name": "v"}, {"name": "w"}]
    with pytest.raises(ConfigError, match=r"data.w.num_samples is missing.*max_steps"):
        plan_run(make_config(streams), {"v": 10, "w": None})
    with pytest.raises(ConfigError, match=r"data.w.weight is missing"):
        plan_run(make_config(streams, max_steps=9, warmup_steps=1), {"v": 10, "w": None})
    plan = plan_run(make_config(streams[:1], max_steps=9, warmup_steps=1), {"v": None})
    assert (plan.num_steps, plan.warmup_steps, plan.steps_per_epoch) == (9, 1, None)


def test_some_weights():
    streams = [{"name": "v", "weight": 1}, {"name": "w"}]
    with pytest.raises(ConfigError, match=r"data.w.weight is missing: expected a weight of every stream, or of none"):
        plan_run(make_config(streams), {"v": 10, "w": 10})


def test_a_warm_up_longer_than_the_run():
    with pytest.raises(ConfigError, match="warmup_steps=6: expected at most the run's 5 steps"):
        plan_run(make_config([{"name": "v"}], max_steps=5, warmup_steps=6), {"v": 10})


def test_batches_of_a_rank():
    (stream,) = make_config([{"name": "v", "batch_size": 12}]).data
    assert batch_size_of_rank(stream, 4) == 3
    with pytest.raises(ConfigError, match=r"data.v.batch_size=12: expected a multiple of the 5 processes"):
        batch_size_of_rank(stream, 5)
