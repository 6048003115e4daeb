"""Settings that are better on validation: a study of trials, each an ordinary training run."""
