"""Where a registration put the sections of a stack, read from the files of other programs."""

from meshgnn.source.poses.place import Placed, Registration, parse_affine, place, read_registration, table_affines

__all__ = ["Placed", "Registration", "parse_affine", "place", "read_registration", "table_affines"]
