"""Dataset wrappers that fairseq lacks: masks that follow the epoch, stored rows in the batch."""
