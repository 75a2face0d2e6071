"""Networks of targets, of areas and of parcels: how nodes hang together, in which groups, and around which of them.

information.py    mutual information of two columns; association.py: of all pairs, with a permutation null
record.py         Network: nodes and layers of weights; files.py: GraphML, CSV, .gt
models.py         tables of results that the page shows; effects.py: mixed models of them
centrality.py     eigenvector centrality; partition.py: what partitions of the same nodes have in common
blocks/           block models: graph-tool's in a process of its own, and what stands in where it is absent
parcels.py        parcels of a mesh and their layers, for data-driven areas
page.py           the page of a network
"""
