"""What a run's teachers cost: their passes over its rows, and all that came before it."""

import math
from collections.abc import Iterator
from pathlib import Path

from fairseq_ki.evaluation import flops
from fairseq_ki.evaluation.results import Run, Teacher, guidance_end
from fairseq_ki.experiments.mixture import share_of_rows, texts
from fairseq_ki.experiments.plan import Job
from fairseq_ki.experiments.run_specs import TRAIN
from fairseq_ki.store.errors import StoreError
from fairseq_ki.store.manifest import Manifest


def teachers_of(job: Job, run: Run, batch: flops.Batch, before: list[Run]) -> list[Teacher]:
    """The live teachers of a training, and those whose logits it reads from a store.

    A store's teacher counts as a live one where its logits are used; with its training counts
    what else the capture took, for epochs that the run does not come to.

    Args:
        job: the training.
        run: what it measured.
        batch: what one of its updates sees.
        before: the runs that it needed.
    """
    live = [(job.needs[name], job.needs[name], 0.0) for name in job.spec.teachers]
    stored = [
        (teacher, store, tokens)
        for store, tokens in _stores(job)
        for teacher in store.needs.values()
        if teacher.spec.kind == TRAIN
    ]
    return [_teacher(job, run, batch, before, *each) for each in live + stored]


def _teacher(
    job: Job,
    run: Run,
    batch: flops.Batch,
    before: list[Run],
    its_job: Job,
    asked: Job,
    captured_tokens: float,
) -> Teacher:
    """One teacher; ``asked`` is itself, or the store that speaks for it."""
    teacher = next(r for r in before if (r.name, r.seed) == (its_job.spec.name, its_job.seed))
    steps = job.spec.options.get("ki-steps")
    updates = guidance_end(run.train, int(steps) if steps else None)
    forward = math.nan
    if teacher.flops:
        forward = flops.teacher_flops(flops.Sizes(**teacher.flops.sizes), batch)
    share = share_of_rows(job.files, str(asked.folder))
    unused = max(0.0, captured_tokens / batch.tokens - share * updates) if captured_tokens else 0.0
    return Teacher(
        run=its_job.spec.name,
        seed=teacher.seed,
        updates=updates,
        forward_flops=share * forward,
        training_flops=(
            teacher.cost(teacher.updates) + teacher.teacher_training + forward * unused
        ),
        valid_ppl=teacher.ppl(teacher.updates),
    )


def _stores(job: Job) -> Iterator[tuple[Job, float]]:
    """(the run that captured it, tokens that its teacher saw) of every store that a run reads."""
    named = [*job.command, *texts(job.files)]
    for needed in job.needs.values():
        for path in dict.fromkeys(text for text in named if text.startswith(f"{needed.folder}/")):
            try:
                manifest = Manifest.load(Path(path))
            except StoreError:  # not a store, but another of its files
                continue
            yield needed, float(manifest.samples * manifest.plan.data["tokens_per_sample"])
