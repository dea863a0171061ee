"""Good inputs of every kind: data, teachers, stores, a corpus. Nothing here is altered; cases copy
what they spoil. (One checkpoint is bad: it would run a command.)"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from forking import REPO, Zygote

from fairseq_ki.compat import load_checkpoint

STUDENT = (
    "--arch roberta --encoder-layers 1 --encoder-embed-dim 16 --encoder-ffn-embed-dim 16 "
    "--encoder-attention-heads 2 --max-positions 32 --tokens-per-sample 32"
)
CAUSAL = (
    "--arch transformer_lm --decoder-layers 1 --decoder-embed-dim 16 --decoder-ffn-embed-dim 16 "
    "--decoder-attention-heads 2 --max-target-positions 32 --tokens-per-sample 32"
)
TRAINING = (
    "--criterion ki --batch-size 8 --optimizer adam --lr 1e-3 --cpu --max-update 1 "
    "--num-workers 0 --disable-validation --no-progress-bar --save-dir save"
)
CAPTURE = "--tokens-per-sample 32 --encoding topk --k 5"
DRAWN = "--tokens-per-sample 32 --encoding sampled --draws 5"
TEXT = "\n\n".join(
    "\n".join(f"the teacher knows {word} and learns {number} more" for word in words)
    for number, words in enumerate([("a word", "of it"), ("many words",), ("less", "more")] * 8)
)


class RunsShell:
    """Pickles as a call of os.system."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def shorter(state: dict) -> None:
    """Halves the positions of a RoBERTa, weights and all."""
    vars(state["cfg"]["model"]).update(max_positions=16, max_source_positions=16)
    name = next(key for key in state["model"] if key.endswith("embed_positions.weight"))
    state["model"][name] = state["model"][name][:18].clone()


@dataclass(frozen=True)
class World:
    """``names`` are filled into commands: ``{data}``, ``{teacher}``, ``{store}`` and so on."""

    folder: Path
    names: dict[str, str]

    @classmethod
    def build(cls, folder: Path, zygote: Zygote, data_bin, teacher, masked_lm, train) -> "World":
        names = {
            "package": str(REPO / "fairseq_ki"),
            "preprocess": str(REPO / "preprocess"),
            "data": str(folder / "data-bin"),
            "teacher": str(folder / "teacher" / "checkpoint_last.pt"),
            "masked": str(masked_lm),  # with a SentencePiece model, which fine-tuning needs
            "causal": str(folder / "causal" / "checkpoint_last.pt"),
            "short": str(folder / "short" / "checkpoint_last.pt"),
            "bomb": str(folder / "bomb" / "checkpoint_last.pt"),
            "student": str(folder / "student" / "checkpoint_last.pt"),
            "store": str(folder / "store"),
            "drawn": str(folder / "drawn"),
            "corpus": str(folder / "corpus"),
            "spm": str(folder / "spm"),
            "encoded": str(folder / "encoded"),
        }
        world = cls(folder, names)
        shutil.copytree(data_bin, names["data"])
        shutil.copytree(Path(teacher).parent, Path(names["teacher"]).parent)
        train(
            folder / "data-bin", folder / "causal",
            "--task language_modeling --criterion cross_entropy --max-update 1", CAUSAL,
        )  # fmt: skip
        shutil.copy(data_bin / "dict.txt", folder / "causal")
        world.altered("teacher", Path(names["short"]), shorter)
        world.altered("teacher", Path(names["bomb"]), lambda state: state.update(x=RunsShell()))
        (folder / "text.txt").write_text(TEXT)
        for command in (
            f"fairseq-train {{data}} --user-dir {{package}} --task ki_mlm {STUDENT} {TRAINING} "
            "--no-epoch-checkpoints --save-dir student",
            f"fairseq-ki logits write {{data}} --teacher {{teacher}} --out store {CAPTURE}",
            f"fairseq-ki logits write {{data}} --teacher {{teacher}} --out drawn {DRAWN}",
            "{preprocess}/text_corpus.py text.txt --out-dir corpus --valid-every 4",
            "{preprocess}/train_sentencepiece.py {corpus}/train.txt --out-dir spm --vocab-size 40",
            "{preprocess}/encode.py {corpus}/train.txt --model spm/spm.model "
            "--out encoded/train.txt",
            "{preprocess}/encode.py {corpus}/valid.txt --model spm/spm.model "
            "--out encoded/valid.txt",
        ):
            done = zygote.run(world.fill(command), folder, folder / "output")
            assert done.status == 0, done.output
        os.remove(folder / "output")
        return world

    def fill(self, command: str) -> str:
        for name, value in self.names.items():
            command = command.replace(f"{{{name}}}", value)
        return command

    def copy(self, name: str, target: Path) -> Path:
        """A copy of one of ``names``, a file or a folder."""
        source = Path(self.names[name])
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        return target

    def altered(self, name: str, target: Path, alter) -> Path:
        """The checkpoint ``name`` after ``alter(state)``, or what that returns, if it does."""
        state = load_checkpoint(self.names[name])
        changed = alter(state)
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state if changed is None else changed, target)
        shutil.copy(Path(self.names[name]).parent / "dict.txt", target.parent)
        return target
