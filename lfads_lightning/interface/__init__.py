"""The trained model as Python has it: with its figures, and with keywords that complete."""
