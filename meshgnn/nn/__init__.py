"""Networks on mesh graphs. Tensors begin here.

A network is a trunk (inputs of nodes to hidden channels of nodes) and a head (to logits of nodes, or to the targets of
whole brains). A new trunk is one file here and one entry in `NetworkConfig`, the allow-list of what a stored model may
name.
"""

from meshgnn.nn.adjacency import Adjacency
from meshgnn.nn.gat import GAT
from meshgnn.nn.gcn import GCN
from meshgnn.nn.graph_batch import GraphBatch
from meshgnn.nn.graph_head import GraphHead
from meshgnn.nn.graph_model import GraphModel
from meshgnn.nn.mlp import MLP
from meshgnn.nn.node_head import NodeHead
from meshgnn.nn.node_model import CoordinateEncoder, NodeModel
from meshgnn.nn.pyg import PyGConv
from meshgnn.nn.sage import GraphSAGE
from meshgnn.nn.socket import Trunk, TrunkConfig

NetworkConfig = GraphSAGE.Config | GCN.Config | GAT.Config | MLP.Config | PyGConv.Config

__all__ = [
    "GAT", "GCN", "MLP", "Adjacency", "CoordinateEncoder", "GraphBatch", "GraphHead", "GraphModel", "GraphSAGE",
    "NetworkConfig", "NodeHead", "NodeModel", "PyGConv", "Trunk", "TrunkConfig",
]  # fmt: skip
