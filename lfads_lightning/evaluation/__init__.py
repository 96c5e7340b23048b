"""Judging a trained model: the field's numbers, beside simple methods."""
