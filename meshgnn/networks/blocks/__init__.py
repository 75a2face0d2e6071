"""Groups of the nodes of a network: nested stochastic block models by graph-tool, Leiden where it is absent."""
