"""The network, its recurrences, distributions and loss; torch only."""
