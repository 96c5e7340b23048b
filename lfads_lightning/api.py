class Trained:
    def __init__(self, model, config, n_bins, step):
        self.model, self.config, self.n_bins, self.step = model, config, n_bins, step
