"""Chunks of a batch: how it is cut, what a chunk holds, and that neither loss nor gradients change."""

import itertools

import pytest
import torch
from accelerate import Accelerator
from contrastive_batches import assert_same_gradients, gradients, make_batch, make_contrastive, select_samples
from naive_contrastive import naive_info_nce
from tower_models import TOWERS, make_tower

from trajvit.modeling_trajvit.configuration_vision_tower import VisionTowerConfig
from trajvit.modeling_trajvit.vision_tower_configs import VISION_TOWER_CONFIGS
from trajvit.training.batch_chunks import count_vision_tokens, cut_chunks, split_to, take_chunk
from trajvit.training.contrastive_step import ContrastiveStep
from trajvit.training.run_config import LossSettings

COUNTS = (5, 2, 4, 1, 3, 0)
VISION_INPUTS = ("pixel_values_videos", "trajectory_maps", "trajectory_attention_mask")


@pytest.fixture(scope="module")
def accelerator():
    return Accelerator(cpu=True)


class TestCutting:
    @pytest.mark.parametrize(
        ("size", "budget", "expected"),
        [
            (None, None, [[0, 1, 2, 3, 4]]),
            (2, None, [[2, 0], [4, 1], [3]]),
            (None, 10, [[2], [0, 4], [1, 3]]),
            (None, 7, [[2], [0], [4, 1], [3]]),
            (1, 100, [[2], [0], [4], [1], [3]]),
            (None, 1, [[2], [0], [4], [1], [3]]),
            (9, 100, [[2, 0, 4, 1, 3]]),
        ],
    )
    def test_by_hand(self, size, budget, expected):
        assert cut_chunks([6, 3, 9, 2, 4], size, budget) == expected

    @pytest.mark.parametrize(("size", "budget"), [*itertools.product([None, 1, 3], [None, 5, 20, 40])])
    def test_every_sample_once_and_no_chunk_beyond_its_limits(self, size, budget):
        tokens = torch.randint(1, 25, (17,), generator=torch.Generator().manual_seed(0)).tolist()
        chunks = cut_chunks(tokens, size, budget)
        assert sorted(itertools.chain(*chunks)) == list(range(17))
        for chunk in chunks:
            assert size is None or len(chunk) <= size
            assert budget is None or len(chunk) == 1 or sum(tokens[sample] for sample in chunk) <= budget

    @pytest.mark.parametrize(
        ("count", "expected"),
        [
            (2, [[1, 2, 3, 4], [5]]),
            (3, [[1, 2], [3, 4], [5]]),
            (4, [[1], [2], [3, 4], [5]]),
            (5, [[1], [2], [3], [4], [5]]),
        ],
    )
    def test_splitting(self, count, expected):
        assert split_to([[1, 2, 3, 4], [5]], count) == expected


class TestTokens:
    def test_trajvit_has_its_trajectories_and_cls(self):
        config = VISION_TOWER_CONFIGS["trajvit"]()
        assert count_vision_tokens(make_batch(COUNTS), config) == [6, 3, 5, 2, 4, 1]

    @pytest.mark.parametrize("tower", TOWERS)
    @pytest.mark.parametrize("num_frames", [1, 3, 4])
    def test_as_many_as_the_first_layer_sees(self, tower, num_frames):
        """Image ViT and ViViT see one instant at a time, each with a CLS token of its own; RLT leaves some out."""
        model, seen = make_tower(tower), []
        layer = next(module for name, module in model.named_modules() if name.endswith("encoder.layers.0"))
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[0] * inputs[0].shape[1]))
        inputs = {key: value for key, value in make_batch((5,), num_frames=num_frames).items() if key in VISION_INPUTS}
        with torch.no_grad():
            model(**inputs)
        (counted,) = count_vision_tokens(inputs, model.config)
        if tower in ("image_vit", "vivit_factorised"):
            instants = num_frames if tower == "image_vit" else -(-num_frames // 2)
            assert counted == seen[0] - instants + 1
        elif tower == "rlt":
            assert counted >= seen[0]
        else:
            assert counted == seen[0]

    def test_a_tower_of_another_kind(self):
        config = VisionTowerConfig()
        config.model_type = "another"
        with pytest.raises(ValueError, match="model_type='another', whose tokens cannot be counted"):
            count_vision_tokens(make_batch(), config)


class TestAChunk:
    def test_rows_and_captions(self):
        inputs = make_batch(COUNTS, captions=2)
        chunk = take_chunk(inputs, torch.tensor([4, 1]), 2)
        for row, sample in enumerate((4, 1)):
            alone = select_samples(inputs, slice(sample, sample + 1), 2)
            assert torch.equal(chunk["pixel_values_videos"][row], alone["pixel_values_videos"][0])
            assert torch.equal(chunk["trajectory_maps"][row], alone["trajectory_maps"][0])
            width = chunk["input_ids"].shape[1]
            assert torch.equal(chunk["input_ids"][2 * row : 2 * row + 2], alone["input_ids"][:, :width])

    @pytest.mark.parametrize(("samples", "width"), [([1, 3], 2), ([5], 0), ([0, 5], 5), ([2, 4], 4)])
    def test_padding_of_all_is_left_out(self, samples, width):
        inputs = make_batch(COUNTS, captions=2)
        chunk = take_chunk(inputs, torch.tensor(samples), 2)
        assert chunk["trajectory_attention_mask"].shape == (len(samples), width)
        longest = max(int(inputs["attention_mask"][2 * sample + j].sum()) for sample in samples for j in range(2))
        assert chunk["input_ids"].shape == chunk["attention_mask"].shape == (2 * len(samples), longest)
        assert chunk["attention_mask"].sum(1).max() == longest

    def test_inputs_without_masks(self):
        inputs = {"pixel_values_videos": torch.arange(3), "input_ids": torch.arange(6).view(3, 2)}
        chunk = take_chunk(inputs, torch.tensor([2]), 1)
        assert chunk["input_ids"].tolist() == [[4, 5]]


def run_step(accelerator, settings, tower="trajvit", captions=1, counts=COUNTS, scale=None, **options):
    """Result, gradients and the number of samples and longest text of every forward pass."""
    model, passes = make_contrastive(tower, **options).double(), []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: passes.append((len(kwargs["pixel_values_videos"]), kwargs)), with_kwargs=True
    )
    torch.manual_seed(5)
    accelerator.scaler = scale
    result = ContrastiveStep(accelerator, model, settings, captions)(make_batch(counts, captions))
    accelerator.scaler = None
    return result, gradients(model), passes


class TestGradients:
    @pytest.mark.parametrize("tower", TOWERS)
    def test_are_those_of_the_loss_written_out(self, accelerator, tower):
        model, inputs = make_contrastive(tower).double(), make_batch(COUNTS, 2)
        outputs = model(**inputs)
        loss = naive_info_nce(outputs.video_embeds, outputs.text_embeds, model.temperature, 2)
        loss.backward()
        expected = gradients(model)
        assert len(expected) == len(list(model.parameters()))
        for settings in (LossSettings(), LossSettings(chunk_size=4)):
            result, actual, _ = run_step(accelerator, settings, tower, captions=2)
            assert result.loss == pytest.approx(loss.item(), rel=1e-9)
            assert result.finite
            assert_same_gradients(actual, expected)

    @pytest.mark.parametrize("settings", [{"chunk_size": 1}, {"chunk_size": 5}, {"chunk_tokens": 9}])
    def test_do_not_depend_on_the_chunks(self, accelerator, settings):
        whole, expected, passes = run_step(accelerator, LossSettings())
        assert len(passes) == 1
        result, actual, passes = run_step(accelerator, LossSettings(**settings))
        assert len(passes) > 2
        assert (result.loss, result.num_tokens) == (pytest.approx(whole.loss, rel=1e-12), whole.num_tokens)
        assert result.accuracy == whole.accuracy
        assert_same_gradients(actual, expected)

    def test_add_to_those_that_are_there(self, accelerator):
        model = make_contrastive().double()
        step = ContrastiveStep(accelerator, model, LossSettings(chunk_size=2), 1)
        step(make_batch())
        once = gradients(model)
        step(make_batch())
        assert_same_gradients(gradients(model), {name: 2 * gradient for name, gradient in once.items()})

    def test_a_gradient_scaler_scales_them_once(self, accelerator):
        for settings in (LossSettings(), LossSettings(chunk_size=2)):
            _, plain, _ = run_step(accelerator, settings)
            scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
            _, scaled, _ = run_step(accelerator, settings, scale=scaler)
            assert_same_gradients(scaled, {name: 64 * gradient for name, gradient in plain.items()})

    def test_in_mixed_precision(self):
        """The logits are computed in single precision, and chunks differ by the rounding of the towers alone."""
        found = []
        for settings in (LossSettings(), LossSettings(chunk_size=2)):
            # Wrapped as Accelerate does it, whose own state is one for all tests.
            model = make_contrastive()
            plain = model.forward
            model.forward = lambda plain=plain, **inputs: torch.autocast("cpu", torch.bfloat16)(plain)(**inputs)
            result = ContrastiveStep(Accelerator(cpu=True), model, settings, 2)(make_batch(captions=2))
            found.append((result, gradients(model)))
        (whole, expected), (result, actual) = found
        assert result.loss == pytest.approx(whole.loss, rel=1e-2)
        for name, gradient in expected.items():
            error = (actual[name] - gradient).norm() / gradient.norm().clamp(min=1e-2)
            assert error < 0.1, name


class TestRandomNumbers:
    def test_dropout_is_replayed(self, accelerator):
        """The second pass has to drop what the first one dropped: gradients are checked by finite differences."""
        model = make_contrastive(dropout=0.3, text_dropout=0.3).double()
        step = ContrastiveStep(accelerator, model, LossSettings(chunk_size=2), 1)
        inputs = make_batch()

        def loss():
            torch.manual_seed(5)
            return step(inputs).loss

        base = loss()
        actual = gradients(model)
        for name in ("video_projection.bias", "text_model.embeddings.LayerNorm.weight", "temperature"):
            weight = model.get_parameter(name)
            change = 1e-6 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            with torch.no_grad():
                weight += change
            slope = loss() - base
            with torch.no_grad():
                weight -= change
            assert slope == pytest.approx((actual[name] * change).sum().item(), rel=1e-3), name

    def test_dropout_differs_between_chunks_and_steps(self, accelerator):
        model = make_contrastive(text_dropout=0.5).double()
        inputs = make_batch((3, 3, 3, 3))
        for name in inputs:
            inputs[name][2:] = inputs[name][:2]
        embeds = []
        model.register_forward_hook(lambda _, __, outputs: embeds.append(outputs.text_embeds.detach()))
        step = ContrastiveStep(accelerator, model, LossSettings(chunk_size=2), 1)
        step(inputs)
        step(inputs)
        assert torch.equal(embeds[0], embeds[2])
        assert torch.equal(embeds[1], embeds[3])
        for first, second in itertools.combinations((embeds[0], embeds[1], embeds[4], embeds[5]), 2):
            assert not torch.allclose(first, second)

    def test_the_generator_goes_on_as_after_one_forward_pass_of_each_chunk(self, accelerator):
        model = make_contrastive(text_dropout=0.5).double()
        inputs = make_batch((3, 3, 3, 3))
        torch.manual_seed(5)
        with torch.no_grad():
            for samples in ([0, 1], [2, 3]):
                model(**take_chunk(inputs, torch.tensor(samples), 1))
        expected = torch.rand(3)
        torch.manual_seed(5)
        ContrastiveStep(accelerator, model, LossSettings(chunk_size=2), 1)(inputs)
        assert torch.equal(torch.rand(3), expected)


class TestWork:
    """What passes at once, counted in tokens at the model's inputs."""

    def most(self, passes):
        tokens = [sum(count_vision_tokens(kwargs, VISION_TOWER_CONFIGS["trajvit"]())) for _, kwargs in passes]
        padded = [kwargs["trajectory_attention_mask"].numel() for _, kwargs in passes]
        texts = [kwargs["input_ids"].numel() for _, kwargs in passes]
        return max(tokens), max(padded), max(texts)

    def test_a_budget_bounds_the_tokens_of_a_pass(self, accelerator):
        counts = (128, 3, 5, 8, 2, 40, 6, 1)
        for budget in (129, 50, 20):
            _, _, passes = run_step(accelerator, LossSettings(chunk_tokens=budget), counts=counts)
            at_once = [sum(count_vision_tokens(kwargs, VISION_TOWER_CONFIGS["trajvit"]())) for _, kwargs in passes]
            assert all(tokens <= budget for tokens, (samples, _) in zip(at_once, passes, strict=True) if samples > 1)
            assert sum(at_once) == 2 * (sum(counts) + len(counts))

    def test_chunks_of_like_samples_have_little_padding(self, accelerator):
        counts = (128, 3, 5, 8, 2, 40, 6, 1)
        _, _, (whole,) = run_step(accelerator, LossSettings(), counts=counts)
        assert whole[1]["trajectory_attention_mask"].numel() == 8 * 128
        _, _, passes = run_step(accelerator, LossSettings(chunk_size=2), counts=counts)
        widths = [kwargs["trajectory_attention_mask"].shape[1] for _, kwargs in passes]
        assert widths == [128, 8, 5, 2] * 2

    def test_samples_of_a_pass(self, accelerator):
        _, _, passes = run_step(accelerator, LossSettings(chunk_size=4))
        assert [samples for samples, _ in passes] == [4, 2, 4, 2]


class TestWrongInputs:
    def test_another_number_of_texts(self, accelerator):
        step = ContrastiveStep(accelerator, make_contrastive(), LossSettings(), 3)
        with pytest.raises(ValueError, match=r"input_ids have 6 rows for 6 samples: expected captions_per_sample=3"):
            step(make_batch())

    def test_batch_norms_in_training(self, accelerator):
        model = make_contrastive().train()
        ContrastiveStep(accelerator, model, LossSettings(chunk_size=6), 1)(make_batch())
        step = ContrastiveStep(accelerator, model, LossSettings(chunk_size=2), 1)
        with pytest.raises(ValueError, match=r"chunk_size=2, .* the batch norm vision_model\.tokenizer\.\S+ takes"):
            step(make_batch())

    @pytest.mark.parametrize("settings", [{}, {"chunk_size": 2}])
    def test_a_loss_that_is_no_number(self, accelerator, settings):
        model = make_contrastive()
        with torch.no_grad():
            model.text_projection.bias.fill_(float("inf"))
        result = ContrastiveStep(accelerator, model, LossSettings(**settings), 1)(make_batch())
        assert not result.finite
        assert gradients(model) == {}
