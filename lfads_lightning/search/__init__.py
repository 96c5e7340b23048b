"""Population-based training: many models train at once and copy settings from one another."""
