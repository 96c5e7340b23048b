"""What a training run does."""
