"""Maps of a whole volume, [C, X, Y, Z] at several scales, and where their values lie."""
