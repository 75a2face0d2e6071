"""What is seen at the nodes: one file per kind of data, behind `meshgnn.sockets.NodeData`."""
