"""Loading SAM 2.1: sizes, image sizes, checkpoint files and what is wrong with them, the Hub, hydra's global state."""

import os
import pickle
import re

import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("sam2")

from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from random_sam2 import randomise_, save_random_checkpoint

from trajvit.processing.sam2_loading import SIZES, build_sam2, load_sam2

CONVOLUTION = "image_encoder.trunk.patch_embed.proj.weight"


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return randomise_(build_sam2("tiny", 1024)).state_dict()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_random_checkpoint(tmp_path_factory.mktemp("sam2") / "sam2.1_hiera_tiny.pt")


def picture(image_size: int) -> torch.Tensor:
    return torch.randn(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))


def without_storage(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of the same shapes that take one number each on disk."""
    return {name: torch.zeros(1).expand(tensor.shape) for name, tensor in state.items()}


def refusal(path, model="tiny") -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the callers look at the message
        load_sam2(model, path, image_size=64)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_loaded_model_is_ready_for_inference(checkpoint, weights):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    model = load_sam2("tiny", checkpoint)
    assert torch.equal(torch.rand(1), expected), "loading draws from the caller's random numbers"
    assert model.image_size == 512
    assert not any(module.training for module in model.modules())
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in model.parameters())
    # The weights were saved by a model of image size 128, these here by one of 1024.
    loaded = model.state_dict()
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


def test_it_computes_what_the_package_computes(checkpoint):
    from sam2.build_sam import build_sam2 as build_by_package

    GlobalHydra.instance().clear()
    with initialize_config_module("sam2", version_base="1.2"):
        overrides = ["++model.image_size=128"]
        theirs = build_by_package(
            "configs/sam2.1/sam2.1_hiera_t.yaml", str(checkpoint), "cpu", "eval", overrides, apply_postprocessing=False
        )
    ours = load_sam2("tiny", checkpoint, image_size=128)
    with torch.inference_mode():
        for left, right in zip(two_steps(ours), two_steps(theirs), strict=True):
            torch.testing.assert_close(left, right, rtol=0, atol=0)


def two_steps(model) -> list[torch.Tensor]:
    """Logits of an object on the frame where its mask is given and on the next one, by the package's own engine."""
    size = model.image_size
    mask = torch.zeros(1, 1, size, size)
    mask[..., : size // 2] = 1
    outputs = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    found = []
    for frame in range(2):
        encoded = model.forward_image(picture(size) + frame)
        _, features, positions, sizes = model._prepare_backbone_features(encoded)
        step = model.track_step(
            frame_idx=frame,
            is_init_cond_frame=frame == 0,
            current_vision_feats=features,
            current_vision_pos_embeds=positions,
            feat_sizes=sizes,
            point_inputs=None,
            mask_inputs=mask if frame == 0 else None,
            output_dict=outputs,
            num_frames=2,
        )
        outputs["cond_frame_outputs" if frame == 0 else "non_cond_frame_outputs"][frame] = step
        found.append(step["pred_masks"])
    return found


@pytest.mark.parametrize("image_size", [32, 64, 96, 160, 256])
def test_every_multiple_of_32_runs(checkpoint, image_size):
    model = load_sam2("tiny", checkpoint, image_size=image_size)
    with torch.inference_mode():
        _, logits = two_steps(model)
    assert logits.shape == (1, 1, image_size // 4, image_size // 4)
    assert torch.isfinite(logits).all()
    assert logits.std() > 0.1


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("plain.pt", lambda state: state),
        ("training.pth", lambda state: {"model": state, "epoch": 3, "best": [0.5]}),
        ("half.pt", lambda state: {name: tensor.half() for name, tensor in state.items()}),
        ("old_format.pt", lambda state: {"model": state}),
    ],
)
def test_every_kind_of_pytorch_file_loads(tmp_path, weights, name, wrap):
    path = tmp_path / name
    torch.save(wrap(weights), path, _use_new_zipfile_serialization=name != "old_format.pt")
    loaded = load_sam2("tiny", str(path), image_size=64).state_dict()
    places = 3e-3 if name == "half.pt" else 0
    for key, tensor in weights.items():
        torch.testing.assert_close(loaded[key], tensor, rtol=places, atol=places)


def test_a_safetensors_file_loads(tmp_path, weights):
    path = tmp_path / "sam2.safetensors"
    save_file(weights, path)
    loaded = load_sam2(None, path, image_size=64).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("size", SIZES)
def test_the_size_is_read_off_the_tensors(tmp_path, size):
    path = tmp_path / "some_name.pt"
    torch.save({"model": without_storage(build_sam2(size, 32).state_dict())}, path)
    other = "tiny" if size == "large" else "large"
    message = refusal(path, other)
    assert repr(other) in message
    assert f"it is of size {size!r}" in message
    if size != "large":
        assert len(load_sam2(None, path, 32).image_encoder.trunk.blocks) == {"tiny": 12, "small": 16}.get(size, 24)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "huge"}, ValueError, "model must be one of tiny, small, base_plus, large, got 'huge'"),
        ({"model": None}, ValueError, "a checkpoint must be given"),
        ({"image_size": 500}, ValueError, "image_size must be a positive multiple of 32, got 500"),
        ({"image_size": 0}, ValueError, "image_size must be a positive multiple of 32, got 0"),
        ({"image_size": -32}, ValueError, "image_size must be a positive multiple of 32, got -32"),
        ({"image_size": 512.0}, TypeError, "image_size must be an integer, got 512.0"),
        ({"image_size": True}, TypeError, "image_size must be an integer, got True"),
        ({"checkpoint": "weights/missing.pt"}, FileNotFoundError, "no checkpoint file 'weights/missing.pt'"),
        ({"checkpoint": "missing"}, FileNotFoundError, "no checkpoint file 'missing'"),
        ({"checkpoint": os.path.dirname(__file__)}, FileNotFoundError, "expected a .pt or .safetensors file"),
        ({"device": "nowhere"}, RuntimeError, "nowhere"),
    ],
)
def test_a_wrong_argument_is_named(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        load_sam2(**arguments)


class Bomb:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("wrap", [lambda bomb: bomb, lambda bomb: {"model": {"weight": bomb}}])
@pytest.mark.parametrize("write", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing, protocol=2))])
def test_a_file_that_would_run_code_is_refused_unrun(tmp_path, wrap, write):
    path, folder = tmp_path / "bomb.pt", tmp_path / "made_by_the_bomb"
    write(wrap(Bomb(folder)), path)
    message = refusal(path)
    assert "it holds something else than tensors" in message
    assert "weights_only" not in message, "the user is not told how to run it"
    assert not folder.exists()


@pytest.mark.parametrize("name", ["empty.pt", "text.pt", "truncated.pt", "text.safetensors", "truncated.safetensors"])
def test_a_damaged_file_is_refused(tmp_path, weights, checkpoint, name):
    path = tmp_path / name
    if name == "truncated.safetensors":
        save_file(weights, path)
        path.write_bytes(path.read_bytes()[:-1000])
    elif name == "truncated.pt":
        path.write_bytes(checkpoint.read_bytes()[:-100_000])
    else:
        path.write_bytes(b"" if name == "empty.pt" else b"no tensors in here\n" * 100)
    assert "is not a SAM 2.1 checkpoint" in refusal(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([torch.zeros(3)], "something else than named tensors"),
        ({"model": {"weight": 3}}, "something else than named tensors"),
        ({"fc.weight": torch.zeros(3, 3)}, f"no tensor {CONVOLUTION}"),
        ({}, f"no tensor {CONVOLUTION}"),
        ({"vision_encoder.backbone.pos_embed": torch.zeros(3)}, "named as in transformers' Sam2Model"),
        (
            {"image_encoder.trunk.patch_embed.proj.weight": torch.zeros(96, 3, 7, 7)},
            "is (96, 3, 7, 7) and followed by 0 blocks",
        ),
        ({"image_encoder.trunk.patch_embed.proj.weight": torch.tensor(1.0)}, "is () and followed by 0 blocks"),
    ],
)
def test_a_file_with_other_tensors_is_refused(tmp_path, content, reason):
    path = tmp_path / "other.pt"
    torch.save(content, path)
    message = refusal(path)
    assert "is not a SAM 2.1 checkpoint" in message
    assert reason in message


def test_a_checkpoint_of_sam_2_0_is_recognised(tmp_path, weights):
    new = {"no_obj_embed_spatial", "obj_ptr_tpos_proj.weight", "obj_ptr_tpos_proj.bias"}
    path = tmp_path / "sam2_hiera_tiny.pt"
    torch.save({"model": without_storage({k: v for k, v in weights.items() if k not in new})}, path)
    message = refusal(path)
    assert "does not fit model 'tiny'" in message
    assert "it is of SAM 2.0" in message
    assert "facebook/sam2.1-hiera-tiny" in message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.pop("maskmem_tpos_enc"), "it lacks maskmem_tpos_enc."),
        (lambda s: s.update(adapter=torch.zeros(3)), "it has in addition adapter."),
        (lambda s: s.update({f"a{k}": torch.zeros(3) for k in range(5)}), "it has in addition a0, a1, a2 and 2 more."),
        (lambda s: s.update(no_obj_ptr=torch.zeros(1, 3)), "it has no_obj_ptr (1, 3) instead of (1, 256)."),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, weights, change, reason):
    state = without_storage(weights)
    change(state)
    path = tmp_path / "changed.pt"
    torch.save(state, path)
    message = refusal(path)
    assert "does not fit SAM 2.1 model 'tiny'" in message
    assert reason in message
