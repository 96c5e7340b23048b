"""The Python interface of the trained model, its figures, and keywords for completion."""
