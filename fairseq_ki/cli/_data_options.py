"""Command-line options that fix blocks and masks: fairseq's own, from fairseq's dataclasses."""

import argparse
import dataclasses
from collections.abc import Iterable, Sequence

from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.configs import CommonConfig
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.registry import REGISTRIES

from fairseq_ki.capture.settings import TASKS, DataSettings

_BPE = "bpe"


class DataParser(argparse.ArgumentParser):
    """Adds, as fairseq-train does, the options of the ``--task`` and the ``--bpe`` it is given."""

    _reads_data = False

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def add_data_arguments(self) -> None:
        """DATA, --task, --bpe, --split, --seed; the rest when a command line is parsed."""
        self._reads_data = True
        self.add_argument("data", metavar="DATA", help="data-bin directories, separated by colons")
        self.add_argument(
            "--split", default="train", help="--train-subset of the trainings (default: train)"
        )
        self._add_choices(self)
        gen_parser_from_dataclass(self, _some_fields(CommonConfig, ["seed"]))

    @staticmethod
    def _add_choices(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--task", choices=sorted(TASKS), default="ki_mlm")
        parser.add_argument(
            "--bpe",
            choices=sorted(REGISTRIES[_BPE]["dataclass_registry"]),
            help="with --mask-whole-words: tells where words begin",
        )

    def parse_known_args(self, args: Sequence[str] | None = None, namespace=None):
        if not self._reads_data:
            return super().parse_known_args(args, namespace)
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, prog=self.prog)
        self._add_choices(first)
        chosen, _ = first.parse_known_args(args)
        config, names = TASKS[chosen.task]
        gen_parser_from_dataclass(self, _some_fields(config, names))
        if chosen.bpe is not None:
            gen_parser_from_dataclass(self, REGISTRIES[_BPE]["dataclass_registry"][chosen.bpe]())
        return super().parse_known_args(args, namespace)


def data_settings(args: argparse.Namespace) -> DataSettings:
    """What a :class:`DataParser` has read."""
    _, names = TASKS[args.task]
    bpe = None
    if args.bpe is not None:
        fields = dataclasses.fields(REGISTRIES[_BPE]["dataclass_registry"][args.bpe])
        known = [f.name for f in fields if f.name != "_name"]
        bpe = (args.bpe, {name: getattr(args, name) for name in known})
    return DataSettings(
        data=args.data,
        task=args.task,
        split=args.split,
        seed=args.seed,
        options={name: getattr(args, name) for name in names},
        bpe=bpe,
    )


def _some_fields(config: type, names: Iterable[str]) -> FairseqDataclass:
    """A dataclass with some of another's fields: their types, defaults and help."""
    chosen = [
        (f.name, f.type, dataclasses.field(default=f.default, metadata=f.metadata))
        for f in dataclasses.fields(config)
        if f.name in names
    ]
    return dataclasses.make_dataclass("Options", chosen, bases=(FairseqDataclass,))()
