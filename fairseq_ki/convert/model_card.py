"""The README.md of a converted model: what it is, where it comes from, how good it was."""

import logging
from pathlib import Path

from fairseq_ki.lineage import of_checkpoint, tree

logger = logging.getLogger(__name__)


def model_card(
    checkpoint: Path, architecture: str, ppl: float | None, facts: dict[str, str]
) -> str:
    """The card as Markdown with the header that transformers reads.

    Args:
        checkpoint: lineage.json is read from beside it, where it is.
        architecture: transformers' class.
        ppl: on the validation set of the training.
        facts: further lines, name to value.
    """
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    said = (
        "The checkpoint does not say."
        if ppl is None
        else f"{ppl:.4g} a predicted token, on the validation set of its training, when the "
        "checkpoint was written."
    )
    return f"""---
library_name: transformers
tags: [fairseq, knowledge-inheritance]
---
# {checkpoint.resolve().parent.name}

A `{architecture}`, converted by fairseq_ki from a fairseq checkpoint. Token ids, logits and
perplexity are those of fairseq.

| | |
|---|---|
{rows}

## Perplexity

{said}

## Lineage

```
{_family(checkpoint)}
```
"""


def _family(checkpoint: Path) -> str:
    try:
        return tree(of_checkpoint(str(checkpoint))[0])
    except (ValueError, OSError) as e:
        logger.warning(f"no lineage in the model card: {e}")
        return "not known"
