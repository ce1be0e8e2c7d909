"""TokenLearner, which pools the places of a frame to a few learned tokens, and TokenFuser, which puts them back.

After "TokenLearner: What Can 8 Learned Tokens Do for Images and Videos?" (Ryoo et al., 2021).

Shape letters: B batch, t positions in time, P places of one of them (h x w), S learned tokens of one of them, D width.
"""

import torch
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN

from .configuration_token_learner import TokenLearnerConfig


class TokenLearner(nn.Module):
    """S spatial attention maps, computed from the tokens themselves, and the tokens that they pool.

    Of the forms that the paper allows for its maps this is a layer norm and an MLP at each place. A softmax over places
    stands for its sigmoid and average over places, so that a learned token keeps the scale of the tokens that it pools
    whatever the size of a frame; the authors' later form of the module does the same. The maps are computed from normed
    tokens and pool the tokens as they are.
    """

    def __init__(self, config: TokenLearnerConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.fc1 = nn.Linear(config.hidden_size, config.token_learner_hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(config.token_learner_hidden_size, config.num_learned_tokens)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, t, P, D) -> (B, t, S, D); nothing passes between positions in time."""
        scores = self.fc2(self.activation(self.fc1(self.norm(tokens))))
        weights = scores.softmax(dim=2, dtype=torch.float32).to(tokens.dtype)
        return weights.transpose(2, 3) @ tokens


class TokenFuser(nn.Module):
    """Learned tokens, mixed and then put back to places: each place weighs the S tokens by what it held before.

    As in the paper, a linear layer mixes the tokens, a linear layer and a sigmoid give each place its weights, and what
    the place held before TokenLearner is added. The paper mixes all S * t tokens, which fixes the length of a video;
    here the S tokens of one position in time are mixed. What a place held is layer-normed: the learned tokens come from
    behind the final norm, and both terms should have one scale. Mixing starts as the identity.
    """

    def __init__(self, config: TokenLearnerConfig):
        super().__init__()
        self.mixing = nn.Parameter(torch.empty(config.num_learned_tokens, config.num_learned_tokens))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.weights = nn.Linear(config.hidden_size, config.num_learned_tokens)

    def init_own_weights(self, std: float) -> None:
        init.eye_(self.mixing)

    def forward(self, learned: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Learned tokens (B, t, S, D) and the features before TokenLearner (B, t, P, D) -> (B, t, P, D)."""
        features = self.norm(features)
        return self.weights(features).sigmoid() @ (self.mixing @ learned) + features
