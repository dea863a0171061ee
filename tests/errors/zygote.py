"""A process that has torch and fairseq loaded, and forks for every command it is told to run.

An import of both takes seconds; a fork takes none of that and is a process of its own all the
same: its own options, registries, working directory, output and exit status. The plug-in is not
loaded beforehand: commands load it as they do in a shell.

Reads one JSON request a line, {"argv", "cwd", "output", "environment", "seconds"}, and answers
with the exit status, negative for a signal, as a shell would see it.
"""

import gc
import importlib
import importlib.metadata
import json
import os
import runpy
import signal
import sys
import traceback
import warnings
from typing import NoReturn

PRELOADED = (
    "fairseq_cli.train", "fairseq_cli.validate", "fairseq_cli.eval_lm", "fairseq_cli.preprocess",
    "sentencepiece", "sklearn.feature_extraction.text", "yaml",
)  # fmt: skip


# a plain command of fairseq's, parsed once: hydra's parser is slow until it has seen options
PARSED = "DATA --task masked_lm --arch roberta --optimizer adam --criterion masked_lm"


def warm_up() -> None:
    """What every command would do anew: imports, and the caches of parsers."""
    for name in PRELOADED:
        importlib.import_module(name)
    import torch
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    torch.set_num_threads(1)
    parser = options.get_training_parser()
    with warnings.catch_warnings(action="ignore"):
        convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, PARSED.split()))
    gc.collect()
    gc.freeze()


def call_program(argv: list[str]) -> None:
    """What the shell would start: a console script of a distribution, or a script by its path."""
    sys.argv = argv
    if argv[0].endswith(".py"):
        sys.path[0] = os.path.dirname(os.path.abspath(argv[0]))
        runpy.run_path(argv[0], run_name="__main__")
        return
    if argv[0] == "fairseq-ki":  # a clone need not be installed to be tested
        from fairseq_ki.cli.main import main

        sys.exit(main())
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name=argv[0])
    sys.exit(entry.load()())


def run_in_child(request: dict) -> NoReturn:
    """Never returns; ends as the interpreter does after an exception or an exit."""
    status = 1
    try:
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, output), (2, output)):
            os.dup2(source, target)
        signal.alarm(request["seconds"])
        os.environ.update(request["environment"])
        os.chdir(request["cwd"])
        call_program(request["argv"])
        status = 0
    except SystemExit as exit_:
        if isinstance(exit_.code, str):
            print(exit_.code, file=sys.stderr)
        else:
            status = exit_.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # imports print
    warm_up()
    for line in requests:
        child = os.fork()
        if child == 0:
            run_in_child(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), file=answers)


if __name__ == "__main__":
    main()
