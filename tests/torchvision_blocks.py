"""ViT layers of torchvision that hold the weights of ours: an independent reference for the towers that are ViTs."""

import torch
from torchvision.models.vision_transformer import EncoderBlock


def randomise(model, std=0.2):
    """Weights large enough for every part to matter, biases and norms included."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = std * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise + 1 if name.endswith("norm.weight") else noise)
    return model.eval()


def reference_block(layer):
    """torchvision's layer with the weights of one of ours."""
    attention, mlp = layer.attention, layer.mlp
    width, hidden = mlp.fc1.in_features, mlp.fc1.out_features
    block = EncoderBlock(width // attention.head_dim, width, hidden, dropout=0.0, attention_dropout=0.0).eval()
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    block.load_state_dict(
        {
            "ln_1.weight": layer.attention_norm.weight,
            "ln_1.bias": layer.attention_norm.bias,
            "self_attention.in_proj_weight": torch.cat([projection.weight for projection in projections]),
            "self_attention.in_proj_bias": torch.cat([projection.bias for projection in projections]),
            "self_attention.out_proj.weight": attention.o_proj.weight,
            "self_attention.out_proj.bias": attention.o_proj.bias,
            "ln_2.weight": layer.mlp_norm.weight,
            "ln_2.bias": layer.mlp_norm.bias,
            "mlp.0.weight": mlp.fc1.weight,
            "mlp.0.bias": mlp.fc1.bias,
            "mlp.3.weight": mlp.fc2.weight,
            "mlp.3.bias": mlp.fc2.bias,
        }
    )
    return block


def run_blocks(layers, tokens):
    """One sequence (L, D) through torchvision's layers with the weights of `layers`."""
    for layer in layers:
        tokens = reference_block(layer)(tokens.unsqueeze(0))[0]
    return tokens


def embed_tubelets(embedding, video, tubelet_size, patch_size):
    """One video (T, C, H, W) -> (t, h, w, D), by a convolution in three dimensions; T is a multiple of the tubelet."""
    weight = embedding.projection.weight
    kernel = weight.view(len(weight), tubelet_size, video.shape[1], patch_size, patch_size).transpose(1, 2)
    stride = (tubelet_size, patch_size, patch_size)
    tokens = torch.nn.functional.conv3d(video.transpose(0, 1)[None], kernel, embedding.projection.bias, stride=stride)
    return tokens[0].permute(1, 2, 3, 0)
