"""Every command that reads a checkpoint, given ``t/c.pt`` or, to resume from, ``save/``."""

from cases_commands import AUDIT, FORECAST, WRITE
from cases_models import FINETUNE, GROW, LINEAGE, TO_HF
from cases_training import PLAIN, TAUGHT

HOSTILE = "t/c.pt"

ENTRIES = [
    f"{PLAIN} --save-dir new --ki-teacher {HOSTILE} --ki-steps 2",
    TAUGHT,  # resumes save/checkpoint_last.pt
    f"{TAUGHT} --save-dir new --restore-file {HOSTILE}",
    f"{TAUGHT} --save-dir new --finetune-from-model {HOSTILE}",
    f"fairseq-validate {{data}} --user-dir {{package}} --task ki_mlm --path {HOSTILE} --cpu "
    "--batch-size 4",
    f"fairseq-eval-lm {{data}} --user-dir {{package}} --path {HOSTILE} --cpu --batch-size 4",
    WRITE.replace("{teacher}", HOSTILE),
    AUDIT.replace("{teacher}", HOSTILE),
    f"{AUDIT} --student {HOSTILE}",
    f"{FORECAST} --student {HOSTILE}",
    GROW.replace("{teacher}", HOSTILE),
    f"{LINEAGE} {HOSTILE}",
    TO_HF.replace("{teacher}", HOSTILE),
    FINETUNE.replace("{teacher}", HOSTILE),
]
