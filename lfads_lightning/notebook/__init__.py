"""What a notebook and an editor show: cards of results, bars, one line for a mistake, keywords."""
