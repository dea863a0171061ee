"""What the tests of conversion share: real text, a SentencePiece model, checkpoints, tokenizers."""

import io
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import sentencepiece
import torch
from fairseq import models, options
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers.models import BPE

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


@pytest.fixture(scope="session")
def lines() -> list[str]:
    """More than 10,000 lines of Python's own library: prose, code, and its quotations."""
    found: list[str] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        found += path.read_text(encoding="utf-8").splitlines()
        if len(found) > 20_000:
            break
    return found


@pytest.fixture(scope="session")
def spm(lines, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("spm")
    return train_spm(folder, lines[:6000], character_coverage=0.999)


def train_spm(folder: Path, lines: list[str], **settings) -> Path:
    """A SentencePiece model with fairseq's ids for the special symbols."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for line in lines if line.strip()]),
        model_writer=model,
        vocab_size=700,
        bos_id=0,
        pad_id=1,
        eos_id=2,
        unk_id=3,
        num_threads=1,
        minloglevel=2,
        **settings,
    )
    path = folder / "spm.model"
    path.write_bytes(model.getvalue())
    return path


def pieces(path: Path) -> list[str]:
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [model.id_to_piece(i) for i in range(4, model.get_piece_size())]


@dataclass(frozen=True)
class Encoder:
    """fairseq's way from text to ids."""

    model: sentencepiece.SentencePieceProcessor
    dictionary: Dictionary

    def __call__(self, text: str) -> list[int]:
        """Pieces looked up in the dictionary; unknown ones are <unk>."""
        unknown = self.dictionary.unk()
        return [
            unknown
            if self.model.is_unknown(self.model.piece_to_id(piece))
            else self.dictionary.index(piece)
            for piece in self.model.encode(text, out_type=str)
        ]


def encoder(path: Path, dictionary: Dictionary) -> Encoder:
    return Encoder(sentencepiece.SentencePieceProcessor(model_file=str(path)), dictionary)


def dictionary_of(symbols: list[str], masked: bool) -> Dictionary:
    dictionary = Dictionary()
    for symbol in symbols:
        dictionary.add_symbol(symbol)
    if masked:
        dictionary.add_symbol("<mask>")
    return dictionary


MASKED = (
    "--task masked_lm --criterion masked_lm --arch roberta --encoder-layers 2 "
    "--encoder-embed-dim 24 --encoder-ffn-embed-dim 40 --encoder-attention-heads 3 "
    "--max-positions 32 --tokens-per-sample 32"
)
CAUSAL = (
    "--task language_modeling --criterion cross_entropy --arch transformer_lm_gpt "
    "--decoder-layers 2 --decoder-embed-dim 24 --decoder-ffn-embed-dim 40 "
    "--decoder-attention-heads 3 --decoder-learned-pos --share-decoder-input-output-embed "
    "--tokens-per-sample 32"
)


def write_checkpoint(
    folder: Path, symbols: list[str], arguments: str, heads: dict[str, int] | None = None
) -> Path:
    """A checkpoint of a model with random weights, large enough to matter, and its dict.txt.

    The file is what fairseq-train writes: options as plain containers, weights, history.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parser = options.get_training_parser()
    args = options.parse_args_and_arch(parser, input_args=[str(folder), *arguments.split()])
    cfg = convert_namespace_to_omegaconf(args)
    masked = "masked_lm" in arguments
    dictionary = dictionary_of(symbols, masked)
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    model = models.build_model(cfg.model, task)
    for name, classes in (heads or {}).items():
        model.register_classification_head(name, num_classes=classes)
    generator = torch.Generator().manual_seed(len(arguments))
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(centre + 0.2 * torch.randn(parameter.shape, generator=generator))
    container = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    state = {
        "args": None,
        "cfg": container,
        "model": model.state_dict(),
        "optimizer_history": [
            {
                "criterion_name": "X",
                "optimizer_name": "FairseqAdam",
                "lr_scheduler_state": {"best": 5.0},
                "num_updates": 7,
            }
        ],
        "task_state": {},
        "extra_state": {
            "train_iterator": {"epoch": 1, "iterations_in_epoch": 0},
            "val_loss": 5.0,
        },
        "last_optimizer_state": None,
    }
    torch.save(state, folder / "checkpoint_best.pt")
    (folder / "dict.txt").write_text("".join(f"{s} 1\n" for s in symbols), encoding="utf-8")
    return folder / "checkpoint_best.pt"


def load_fairseq(path: Path):
    """The model of a checkpoint as fairseq loads it, in eval mode."""
    from fairseq import checkpoint_utils

    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(path)], arg_overrides={"data": str(path.parent), "load_checkpoint_heads": True}
    )
    return model.eval(), task


def byte_bpe(lines: list[str], special: list[str], size: int = 400) -> Tokenizer:
    """A byte-level BPE as GPT-2's and RoBERTa's, with its special tokens first."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines[:2000], trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, **names: str) -> None:
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **names
    ).save_pretrained(folder)


ROBERTA_NAMES = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


def roberta_bpe(lines: list[str], special: tuple[str, ...] = SPECIAL) -> Tokenizer:
    tokenizer = byte_bpe(lines, list(special))
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", special.index("</s>")), ("<s>", special.index("<s>"))
    )
    return tokenizer


def randomize(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights large enough that a wrong one is seen in the logits."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            centre = 1.0 if ("orm" in name or "ln_" in name) and name.endswith("weight") else 0.0
            parameter.copy_(centre + 0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.fixture(scope="session")
def tools() -> SimpleNamespace:
    """The functions of this file, for tests."""
    return SimpleNamespace(
        MASKED=MASKED,
        CAUSAL=CAUSAL,
        ROBERTA_NAMES=ROBERTA_NAMES,
        byte_bpe=byte_bpe,
        dictionary_of=dictionary_of,
        encoder=encoder,
        load_fairseq=load_fairseq,
        pieces=pieces,
        randomize=randomize,
        roberta_bpe=roberta_bpe,
        save_tokenizer=save_tokenizer,
        train_spm=train_spm,
        write_checkpoint=write_checkpoint,
    )
