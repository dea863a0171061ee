"""Small models of fairseq with weights as uneven as those of trained ones."""

from argparse import ArgumentParser, Namespace
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from fairseq import models, options
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY


@pytest.fixture(scope="session")
def dictionary() -> Dictionary:
    symbols = Dictionary()
    for i in range(30):
        symbols.add_symbol(f"w{i}")
    return symbols


@cache
def parser_of(task: str, arch: str) -> ArgumentParser:
    """fairseq's parser with the options of one model, which takes a second to make."""
    parser = options.get_training_parser()
    options.parse_args_and_arch(parser, input_args=["data", "--task", task, "--arch", arch])
    return parser


def options_of_model(words: list[str], task: str) -> Namespace:
    arch = words[words.index("--arch") + 1]
    args = parser_of(task, arch).parse_args(["data", "--task", task, *words])
    ARCH_CONFIG_REGISTRY.get(arch, lambda _: None)(args)
    args.tpu = False
    return args


@pytest.fixture(scope="session")
def build(dictionary):
    """A model from layers, width, feed-forward width and heads, and further options."""

    def one(causal, layers, width, ffn, heads, extra="", positions=16, seed=3):
        side = "decoder" if causal else "encoder"
        sizes = {
            "layers": layers,
            "embed-dim": width,
            "ffn-embed-dim": ffn,
            "attention-heads": heads,
        }
        words = [word for name, n in sizes.items() for word in (f"--{side}-{name}", str(n))]
        words += ["--max-target-positions" if causal else "--max-positions", str(positions)]
        words += extra.split()
        if "--arch" not in words:
            words += ["--arch", "gpt_micro_2x128" if causal else "roberta"]
        built = models.build_model(
            options_of_model(words, "language_modeling" if causal else "masked_lm"),
            SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary),
        )
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        return built.eval()

    return one


@pytest.fixture(scope="session")
def logits(dictionary):
    @torch.no_grad()
    def of(model, length=12):
        generator = torch.Generator().manual_seed(5)
        tokens = torch.randint(4, len(dictionary), (3, length), generator=generator)
        tokens[1, length - 4 :] = dictionary.pad()
        return model(tokens)[0][tokens.ne(dictionary.pad())]

    return of
