"""A run answers: exported once as an artefact, then asked for the scores of candidates without the training code."""
