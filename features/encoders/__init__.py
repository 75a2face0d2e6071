"""Encoders: one file each, behind `meshgnn.sockets.Encoder`."""
