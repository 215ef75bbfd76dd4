"""The training loop, hyperparameter search and training on several processes."""
