"""Training: the configuration, the training loop, Stage I, the pseudo-supervisor and Stage II."""
