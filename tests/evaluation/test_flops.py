"""Counted FLOPs against torch's own counter, on models of fairseq."""

from argparse import Namespace

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models.roberta import RobertaModel, roberta_base_architecture
from fairseq.models.transformer_lm import TransformerLanguageModel, base_lm_architecture
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fairseq_ki.evaluation.flops import (
    Batch,
    Sizes,
    batch_of,
    forward_flops,
    read_checkpoint,
    teacher_flops,
    training_flops,
)
from fairseq_ki.models._row_features import TILE, row_features
from fairseq_ki.objective.positions import Positions

SIZES = {"layers": 3, "d_model": 32, "d_ffn": 80}
BATCH, LENGTH = 4, 24


def dictionary(words: int = 200) -> Dictionary:
    made = Dictionary()
    for i in range(words):
        made.add_symbol(f"w{i}")
    return made


class Task:
    source_dictionary = target_dictionary = output_dictionary = dictionary()


def roberta() -> RobertaModel:
    args = Namespace(
        encoder_layers=3,
        encoder_embed_dim=32,
        encoder_ffn_embed_dim=80,
        encoder_attention_heads=4,
        dropout=0.0,
        attention_dropout=0.0,
        max_positions=64,
        tokens_per_sample=64,
    )
    roberta_base_architecture(args)
    return RobertaModel.build_model(args, Task)


def gpt() -> TransformerLanguageModel:
    args = Namespace(
        decoder_layers=3,
        decoder_embed_dim=32,
        decoder_ffn_embed_dim=80,
        decoder_attention_heads=4,
        dropout=0.0,
        attention_dropout=0.0,
        max_target_positions=64,
        tokens_per_sample=64,
        share_decoder_input_output_embed=True,
    )
    base_lm_architecture(args)
    return TransformerLanguageModel.build_model(args, Task)


def counted(forward, backward: bool) -> int:
    # the fused attention of the CPU is unknown to torch's counter
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        out = forward()
        if backward:
            out.float().sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("backward", [False, True])
def test_roberta_with_head_on_masked_rows_only(backward):
    torch.manual_seed(0)
    model = roberta().train()
    tokens = torch.randint(5, 200, (BATCH, LENGTH))
    masked = torch.rand(BATCH, LENGTH) < 0.2
    found = counted(lambda: model(tokens, masked_tokens=masked)[0], backward)
    sizes = Sizes(vocabulary=len(Task.source_dictionary), dense_head=True, **SIZES)
    batch = Batch(BATCH * LENGTH, LENGTH, int(masked.sum()))
    ours = training_flops(sizes, batch) if backward else forward_flops(sizes, batch)
    assert ours == pytest.approx(found, rel=0.02)


@pytest.mark.parametrize("backward", [False, True])
def test_gpt_with_head_on_all_rows(backward):
    torch.manual_seed(0)
    model = gpt().train()
    tokens = torch.randint(5, 200, (BATCH, LENGTH))
    found = counted(lambda: model(tokens)[0], backward)
    sizes = Sizes(vocabulary=len(Task.source_dictionary), dense_head=False, **SIZES)
    batch = Batch(BATCH * LENGTH, LENGTH, BATCH * LENGTH)
    ours = training_flops(sizes, batch) if backward else forward_flops(sizes, batch)
    assert ours == pytest.approx(found, rel=0.02)


def test_sizes_from_checkpoints(tmp_path, teacher):
    sizes, task = read_checkpoint(teacher)  # a masked LM trained by fairseq
    assert (sizes.layers, sizes.d_model, sizes.d_ffn, sizes.dense_head) == (1, 16, 32, True)
    assert task["tokens_per_sample"] == 32
    assert batch_of(task, 1000.0) == Batch(1000.0, 32, 150.0)

    file = tmp_path / "gpt.pt"
    state = {"model": gpt().state_dict(), "cfg": {"task": {"tokens_per_sample": 64}}}
    torch.save(state, file)
    sizes, task = read_checkpoint(file)
    assert sizes == Sizes(vocabulary=len(Task.source_dictionary), dense_head=False, **SIZES)
    assert batch_of(task, 96.0) == Batch(96.0, 64, 96.0)


def test_other_models_are_refused(tmp_path):
    file = tmp_path / "other.pt"
    torch.save({"model": {"conv.weight": torch.zeros(2)}, "cfg": {"task": {}}}, file)
    with pytest.raises(ValueError, match=r"other\.pt: expected the weights of a RoBERTa.*conv"):
        read_checkpoint(file)


def test_projected_embeddings_are_refused(tmp_path):
    weights = {
        "decoder.embed_tokens.weight": torch.zeros(10, 4),
        "decoder.layers.0.fc1.weight": torch.zeros(16, 8),
    }
    torch.save({"model": weights, "cfg": {"task": {}}}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="as wide as the layers, found 4 and 8"):
        read_checkpoint(tmp_path / "x.pt")


def test_a_live_teacher_is_counted_at_its_loss_rows():
    model = roberta().eval()
    rows = torch.zeros(BATCH, LENGTH, dtype=torch.bool)
    # as many in every sample, and whole tiles: what fills up either is not counted
    rows[:, :TILE] = True
    tokens = torch.randint(4, 200, (BATCH, LENGTH))
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model.encoder.lm_head(row_features(model, tokens, Positions.where(rows)))
    batch = Batch(BATCH * LENGTH, LENGTH, BATCH * TILE)
    sizes = Sizes(**SIZES, vocabulary=len(Task.source_dictionary), dense_head=True)
    assert teacher_flops(sizes, batch) == counter.get_total_flops()
    assert teacher_flops(sizes, batch) < forward_flops(sizes, batch)
