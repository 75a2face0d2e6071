"""Brains as the graphs of other libraries, and back.

    library             from a MeshGraph        back                        file
    PyTorch Geometric   graph.to_pyg()          MeshGraph.from_pyg          save_data, load_data (safetensors + JSON)
    networkx            graph.to_networkx()     MeshGraph.from_networkx     export --format graphml
    graph-tool          graph.to_graph_tool()   MeshGraph.from_graph_tool   write_gt, read_gt (without graph-tool)

Each way and back gives the same MeshGraph, in every array and name. What a library cannot hold is said in its file
here. Numbers per node that were computed there come back as feature tables. The libraries are imported when used.
"""
