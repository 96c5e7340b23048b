"""Evaluating a trained model: the scores used in the field, compared with simple methods."""
