"""Two processes with half a batch each find the loss and the gradients that one has with the whole batch."""

import math

import pytest
import torch
import torch.multiprocessing as mp
from contrastive_batches import assert_same_gradients, gradients, make_batch, make_contrastive
from contrastive_processes import (
    BOUNDS,
    CAPTIONS,
    COUNTS,
    embeddings,
    opposed_embeddings,
    own_samples,
    run_process,
)
from naive_contrastive import naive_info_nce

from trajvit.modeling_trajvit.contrastive_loss import bounded


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of the two processes found."""
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(run_process, (str(folder),), nprocs=2)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def whole_batch(inputs):
    """Loss, gradients and the share of right videos of one model on the whole batch, the loss written out in loops."""
    model = make_contrastive().double()
    outputs = model(**inputs)
    loss = naive_info_nce(outputs.video_embeds, outputs.text_embeds, model.temperature, CAPTIONS)
    loss.backward()
    nearest = (outputs.video_embeds @ outputs.text_embeds.T).argmax(1)
    right = [int(text) // CAPTIONS == video for video, text in enumerate(nearest)]
    return loss.item(), gradients(model), sum(right) / len(right)


def test_there_are_two_processes(found):
    assert [process["world"] for process in found] == [2, 2]


class TestLossOfEmbeddings:
    def whole(self):
        tensors = [tensor.clone().requires_grad_() for tensor in embeddings()]
        return tensors, naive_info_nce(*tensors, CAPTIONS)

    def test_the_mean_of_the_processes_is_the_loss_of_the_whole_batch(self, found):
        mean = (found[0]["embeddings"]["loss"] + found[1]["embeddings"]["loss"]) / 2
        torch.testing.assert_close(mean, self.whole()[1].detach())
        assert found[0]["embeddings"]["loss"] != found[1]["embeddings"]["loss"]

    def test_gradients(self, found):
        """A process's own rows get all processes' gradients, of which data parallel training takes the mean."""
        tensors, loss = self.whole()
        videos, texts, temperature = torch.autograd.grad(loss, tensors)
        for rank, process in enumerate(found):
            own = process["embeddings"]["gradients"]
            torch.testing.assert_close(own[0] / 2, videos[own_samples(rank)])
            torch.testing.assert_close(own[1] / 2, texts[6 * rank : 6 * rank + 6])
            torch.testing.assert_close(own[2], temperature)

    def test_gradients_by_finite_differences(self, found):
        videos, texts, temperature = embeddings()
        step = 1e-5
        for rank, row, column in ((0, 1, 2), (1, 2, 0), (1, 0, 4)):
            losses = []
            for sign in (1, -1):
                moved = videos.clone()
                moved[3 * rank + row, column] += sign * step
                losses.append(naive_info_nce(moved, texts, temperature, CAPTIONS))
            slope = (losses[0] - losses[1]) / (2 * step)
            own = found[rank]["embeddings"]["gradients"][0][row, column] / 2
            assert own.item() == pytest.approx(slope.item(), rel=1e-6)

    def test_gathered_rows_are_in_the_order_of_the_processes(self, found):
        for process in found:
            assert torch.equal(process["embeddings"]["gathered"], embeddings()[0])

    def test_a_temperature_outside_its_bounds_goes_where_the_whole_batch_wants_it(self, found):
        """One process would take it further out and the other back; what counts is their mean."""
        videos, texts, temperature = opposed_embeddings()
        temperature = temperature.requires_grad_()
        naive_info_nce(videos, texts, bounded(temperature, *BOUNDS), CAPTIONS).backward()
        assert temperature.grad.abs() > 0.01
        for process in found:
            torch.testing.assert_close(process["opposed"]["gradients"][2], temperature.grad)


class TestModel:
    @pytest.mark.parametrize("trial", ["whole", "chunk_size", "chunk_tokens"])
    def test_gradients_of_every_parameter(self, found, trial):
        loss, expected, _ = whole_batch(make_batch(COUNTS, CAPTIONS))
        for process in found:
            assert process[trial]["result"]["loss"] == pytest.approx(loss, rel=1e-9)
            assert_same_gradients(process[trial]["gradients"], expected)

    @pytest.mark.parametrize(("trial", "counts"), [("empty", (0,) * 6), ("half empty", (3, 2, 4, 0, 0, 0))])
    def test_samples_without_trajectories(self, found, trial, counts):
        """On all processes or on one, every parameter has a gradient, or the others would wait for it."""
        loss, expected, _ = whole_batch(make_batch(counts, CAPTIONS))
        assert len(expected) == len(list(make_contrastive().parameters()))
        for process in found:
            assert process[trial]["result"]["loss"] == pytest.approx(loss, rel=1e-9)
            assert_same_gradients(process[trial]["gradients"], expected)

    def test_results_are_those_of_all_processes(self, found):
        _, _, accuracy = whole_batch(make_batch(COUNTS, CAPTIONS))
        for process in found:
            result = process["whole"]["result"]
            assert (result["num_samples"], result["num_tokens"]) == (6, 6 + sum(COUNTS))
            assert result["accuracy"] == pytest.approx(accuracy)
        assert found[0]["chunk_tokens"]["result"] == found[1]["chunk_tokens"]["result"]

    def test_processes_run_as_many_passes(self, found):
        """A budget of 6 tokens makes 3 chunks of the first half, whose samples have 6, 5 and 6, and 1 of the second."""
        assert [process["whole"]["forwards"] for process in found] == [1, 1]
        assert [process["chunk_size"]["forwards"] for process in found] == [4, 4]
        assert [process["chunk_tokens"]["forwards"] for process in found] == [6, 6]

    def test_gradients_are_exchanged_once(self, found):
        for process in found:
            assert process["whole"]["exchanges"] == 1
            assert process["chunk_size"]["exchanges"] == process["chunk_tokens"]["exchanges"] == 1


@pytest.mark.parametrize("trial", ["not finite", "not finite in chunks"])
class TestLossesThatAreNoNumbers:
    def test_no_process_goes_back(self, found, trial):
        for process in found:
            assert not process[trial]["result"]["finite"]
            assert math.isnan(process[trial]["result"]["loss"])
            assert process[trial]["gradients"] == {}

    def test_the_next_step_is_as_if_nothing_had_been(self, found, trial):
        inputs = make_batch(COUNTS, CAPTIONS)
        inputs["input_ids"][inputs["input_ids"] == 98] = 97
        loss, expected, _ = whole_batch(inputs)
        for process in found:
            after = process[f"after {trial}"]
            assert after["result"]["finite"]
            assert after["result"]["loss"] == pytest.approx(loss, rel=1e-9)
            assert_same_gradients(after["gradients"], expected)
