"""Networks on mesh graphs. Tensors begin here.

A new network is one file here and one entry in `NetworkConfig`, the allow-list of what a stored model may name.
"""

from meshgnn.nn.adjacency import Adjacency
from meshgnn.nn.gcn import GCN
from meshgnn.nn.mlp import MLP
from meshgnn.nn.node_model import CoordinateEncoder, NodeModel
from meshgnn.nn.pyg import PyGConv
from meshgnn.nn.sage import GraphSAGE
from meshgnn.nn.socket import NodeNetwork

NetworkConfig = GraphSAGE.Config | GCN.Config | MLP.Config | PyGConv.Config

__all__ = [
    "GCN",
    "MLP",
    "Adjacency",
    "CoordinateEncoder",
    "GraphSAGE",
    "NetworkConfig",
    "NodeModel",
    "NodeNetwork",
    "PyGConv",
]
