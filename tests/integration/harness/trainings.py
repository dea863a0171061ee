"""Small trainings, one for each kind of teacher, that take seconds."""

from pathlib import Path

from harness.launcher import ROOT, Launcher

KI = f"--user-dir {ROOT / 'fairseq_ki'} --criterion ki"
TINY = (
    "--tokens-per-sample 32 --batch-size 8 --optimizer adam --lr 5e-3 --lr-scheduler fixed --cpu "
    "--log-format json --log-interval 1 --no-progress-bar --dropout 0.1 --attention-dropout 0.1"
)
MASKED = (
    "--task ki_mlm --arch roberta --encoder-layers 1 --encoder-embed-dim 24 "
    "--encoder-ffn-embed-dim 32 --encoder-attention-heads 2 --max-positions 32"
)
CAUSAL = (
    "--task ki_lm --arch gpt_73m --decoder-layers 1 --decoder-embed-dim 24 "
    "--decoder-ffn-embed-dim 32 --decoder-attention-heads 2 --max-target-positions 32"
)

# Two epoch ends and a half: 127 blocks of 32 tokens in batches of 8 are 16 updates an epoch. Saved
# often, and best and last are copies, so that half of what is on the disk is being written.
SAVING = "--save-interval-updates 5 --keep-interval-updates 2 --validate-interval-updates 10"
UPDATES = 40


def materials(
    launcher: Launcher, data: Path, folder: Path, samples_per_shard: int = 40
) -> dict[str, str]:
    """Trains teachers, captures stores, and returns the options of trainings, by name.

    Args:
        data: a data-bin of some 130 blocks of 32 tokens, as ``write_data_bin`` of tests/conftest.py
            makes it.
    """

    def made(arguments: str, command: str = "fairseq-train") -> None:
        (ended,) = launcher.run(arguments, command=command)
        assert ended.status == 0, ended.log[-3000:]

    teachers = {}
    for name, model in (("masked", MASKED), ("causal", CAUSAL)):
        save_dir = folder / f"{name}-teacher"
        made(
            f"{data} {KI} {TINY} {model} --max-update 12 --num-workers 0 --disable-validation "
            f"--no-epoch-checkpoints --save-dir {save_dir}"
        )
        teachers[name] = save_dir / "checkpoint_last.pt"
    for name, task in (("masked", "ki_mlm"), ("causal", "ki_lm")):
        made(
            f"logits write {data} --task {task} --teacher {teachers[name]} --tokens-per-sample 32 "
            f"--out {folder / name}-store --encoding topk --k 5 "
            f"--samples-per-shard {samples_per_shard}",
            "fairseq-ki",
        )
    mixture = folder / "mixture.yaml"
    mixture.write_text(
        "domains:\n"
        f"  one: {{data: {data}, weight: 2, teachers: [{{checkpoint: {teachers['masked']}}}]}}\n"
        f"  two: {{data: {data}, teachers: [{{store: {folder}/masked-store}}]}}\n"
        f"  three: {{data: {data}}}\n"
    )
    host = f"{data} {KI} {TINY} {SAVING}"
    surpassed = "--ki-steps 60 --ki-stop-when-surpassed --ki-surpassed-window 3"
    return {
        "live": f"{host} {MASKED} --ki-teacher {teachers['masked']} {surpassed}",
        "store": f"{host} {MASKED} --ki-store {folder}/masked-store --ki-steps 25",
        "mixture": f"{host} {MASKED} --ki-mixture {mixture} --ki-steps 25 --batch-size 24",
        "causal live": f"{host} {CAUSAL} --ki-teacher {teachers['causal']} --ki-steps 25",
        "causal store": f"{host} {CAUSAL} --ki-store {folder}/causal-store --ki-steps 25",
    }
