"""What a trained model infers from data."""
