"""Display in notebooks and editors: cards of results, progress bars, short errors, keywords."""
