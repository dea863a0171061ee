"""Fine-tuning and probing of pre-trained checkpoints on classification and regression tasks."""
