"""Tests stand at the path of what they test: tests/model/test_layers.py proves interformer_rec/model/layers.py."""
