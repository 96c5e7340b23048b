"""Recordings in: from spike times and counts as labs have them to session files."""
