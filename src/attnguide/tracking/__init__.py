"""Experiment trackers: Weights and Biases."""
