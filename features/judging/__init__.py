"""How well features tell areas apart without a graph network: probes, neighbours, clusters, retrieval, distance."""
