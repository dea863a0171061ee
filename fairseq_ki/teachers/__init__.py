"""Where a teacher's signal comes from: a live model, or a store of logits."""
