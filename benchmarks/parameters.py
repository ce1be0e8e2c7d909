"""Counts the parameters of every module of Table 2 and writes them into docs/parameters.md, beside the paper's.

python benchmarks/parameters.py            # rewrites the table in the page
python benchmarks/parameters.py --print    # shows it
"""

import argparse
from pathlib import Path

import torch
from torch import nn

from trajvit.modeling_trajvit import TrajViTConfig, TrajViTModel

PAGE = Path(__file__).resolve().parent.parent / "docs" / "parameters.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
# Supplement, Table 2, column "Parameter Size", in its order.
PAPER = {
    "Per-frame Feature Extractor": "11.6M",
    "Mask Pooling": "0",
    "Sinusoidal Encoder": "0",
    "Perceiver Resampler x 2": "8.4M",
    "MLP x 2": "0.13M",
    "Main Transformer": "304M",
}


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def module_counts(name: str) -> dict[str, int]:
    """Parameters of each row of Table 2 for a named configuration; nothing is allocated."""
    with torch.device("meta"):
        model = TrajViTModel(TrajViTConfig.from_name(name))
    tokenizer = model.tokenizer
    counts = (
        count(tokenizer.frame_features),
        0,  # a function
        count(tokenizer.box_encoder),
        count(tokenizer.appearance_resampler, tokenizer.position_resampler),
        count(tokenizer.appearance_mlp, tokenizer.position_mlp),
        count(model.encoder),
    )
    if sum(counts) != count(model):
        raise RuntimeError(f"the rows of {name} hold {sum(counts)} parameters, the model {count(model)}")
    return dict(zip(PAPER, counts, strict=True))


def table() -> str:
    names = ("large", "large-wide", "base", "small", "tiny")
    counts = {name: module_counts(name) for name in names}
    lines = [
        f"| module | paper | {' | '.join(f'`{name}`' for name in names)} |",
        "|---|---|" + "---|" * len(names),
    ]
    for row, printed in PAPER.items():
        lines.append(f"| {row} | {printed} | {' | '.join(f'{counts[name][row]:,}' for name in names)} |")
    lines.append(f"| all | | {' | '.join(f'{sum(counts[name].values()):,}' for name in names)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="show the table instead of writing it")
    if parser.parse_args().print:
        print(table(), end="")
        return
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(before + BEGIN + table() + END + after)


if __name__ == "__main__":
    main()
