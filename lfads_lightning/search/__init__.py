"""Population-based training: many models at once, which learn their settings from one another."""
