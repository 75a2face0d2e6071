"""Several inputs of a subject in one network: blocks, their fusion, heads of traits."""
