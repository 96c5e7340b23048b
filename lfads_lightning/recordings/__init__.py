"""From recordings, as spike times or counts, to session files."""
