"""Networks on mesh graphs. Tensors begin here."""

from meshgnn.nn.adjacency import Adjacency
from meshgnn.nn.gcn import GCN
from meshgnn.nn.mlp import MLP
from meshgnn.nn.sage import GraphSAGE
from meshgnn.nn.socket import NodeNetwork

__all__ = ["GCN", "MLP", "Adjacency", "GraphSAGE", "NodeNetwork"]
