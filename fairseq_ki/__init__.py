"""Knowledge Inheritance for fairseq: a small pre-trained language model teaches a larger one.

Loaded by ``fairseq-train --user-dir fairseq_ki``. Importing this package registers everything
the plug-in adds, so that it works whichever of fairseq or the user imports it first: fairseq
scans ``tasks/`` and ``models/`` only on the first import of a user directory and never
``criterions/`` or ``optim/``.
"""

__version__ = "0.1.0"

if __name__ != "fairseq_ki":  # half of it would be imported once more, under the right name
    raise SystemExit(
        "error: --user-dir: expected the folder under its own name, fairseq_ki, found "
        f"{__name__!r} at {__path__[0]}; name the folder itself, not a link or a renamed copy"
    )

from fairseq_ki import compat

compat.apply()

from fairseq_ki import criterions, models, optim, tasks  # noqa: E402,F401  (registers)
