"""Traits of subjects from several inputs: items, training, the experiment."""
