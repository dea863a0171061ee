"""The named architectures through fairseq's own option parser, counted on the meta device."""

from functools import cache
from types import SimpleNamespace

import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import ARCH_MODEL_REGISTRY

from fairseq_ki.models.paper_archs import GPT, ROBERTA

# The paper's Table 6, in millions, but for the rows where it prints a dash.
TABLE_6 = {
    "roberta_medium": 74,
    "roberta_base": 125,
    "roberta_base_plus": 211,
    "roberta_large": 355,
    "gpt_73m": 73,
    "gpt_124m": 124,
    "gpt_209m": 209,
    "gpt_354m": 354,
    "gpt_773m": 773,
    "gpt_1b": 1068,
}


class Vocabulary:
    """As much of a dictionary as building a model asks for."""

    def __init__(self, size: int = 50_265):
        self.size = size

    def __len__(self) -> int:
        return self.size

    def pad(self) -> int:
        return 1

    def eos(self) -> int:
        return 2


@pytest.fixture(autouse=True)
def _no_values(monkeypatch):
    # the initialisation copies through the CPU, which the meta device has no values for
    monkeypatch.setattr("fairseq.models.roberta.model.init_bert_params", lambda module: None)


@cache
def parse(arch: str, *flags: str):
    task = "masked_lm" if arch.startswith("roberta") else "language_modeling"
    args = ["data", "--task", task, "--arch", arch, "--tokens-per-sample", "512", *flags]
    parsed = options.parse_args_and_arch(options.get_training_parser(), input_args=args)
    return convert_namespace_to_omegaconf(parsed).model


def build(arch: str, *flags: str):
    words = Vocabulary()
    task = SimpleNamespace(
        source_dictionary=words,
        target_dictionary=words,
        dictionary=words,
        max_positions=lambda: 512,
    )
    with torch.device("meta"):
        return ARCH_MODEL_REGISTRY[arch].build_model(parse(arch, *flags), task)


@pytest.mark.parametrize("arch", TABLE_6)
def test_parameters_are_the_papers_within_one_percent(arch):
    count = sum(p.numel() for p in build(arch).parameters()) / 1e6
    assert count == pytest.approx(TABLE_6[arch], rel=0.01)


@pytest.mark.parametrize("arch", [*ROBERTA, *GPT])
def test_every_row_comes_out_of_the_option_parser(arch):
    size = (ROBERTA | GPT)[arch]
    cfg = parse(arch)
    side = "encoder" if arch in ROBERTA else "decoder"
    found = [
        getattr(cfg, f"{side}_{option}")
        for option in ("layers", "embed_dim", "attention_heads", "ffn_embed_dim")
    ]
    assert found == list(size)
    assert size.embed_dim % size.heads == 0
    assert (cfg.dropout, cfg.attention_dropout, cfg.activation_fn) == (0.1, 0.1, "gelu")


@pytest.mark.parametrize("arch", GPT)
def test_gpt_ties_its_embeddings_and_learns_its_positions(arch):
    cfg = parse(arch)
    assert cfg.share_decoder_input_output_embed
    assert cfg.decoder_learned_pos
    assert cfg.decoder_input_dim == cfg.decoder_output_dim == cfg.decoder_embed_dim


def test_explicit_flags_win():
    cfg = parse("gpt_73m", "--decoder-layers", "2", "--decoder-embed-dim", "96", "--dropout", "0")
    assert (cfg.decoder_layers, cfg.decoder_embed_dim, cfg.dropout) == (2, 96, 0.0)
    assert (cfg.decoder_input_dim, cfg.decoder_output_dim) == (96, 96)
    assert cfg.decoder_ffn_embed_dim == 3072
    cfg = parse("roberta_medium", "--encoder-layers", "3", "--attention-dropout", "0.25")
    assert (cfg.encoder_layers, cfg.attention_dropout) == (3, 0.25)
    assert cfg.encoder_embed_dim == 576


@pytest.mark.parametrize("arch", ["roberta_micro_4x192", "gpt_micro_4x192"])
def test_a_built_model_is_as_wide_and_deep_as_its_name(arch):
    model = build(arch)
    body = model.encoder.sentence_encoder if arch in ROBERTA else model.decoder
    assert len(body.layers) == 4
    assert body.embed_tokens.weight.shape == (50_265, 192)


def test_pre_norm_is_a_flag_away():
    model = build("roberta_micro_2x128", "--encoder-normalize-before")
    assert model.encoder.sentence_encoder.layers[0].normalize_before
