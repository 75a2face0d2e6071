"""Observer-independent borders of cortical areas on sections (Schleicher et al. 1999, 2005).

    section + mesh -> lines across the ribbon -> depth profiles -> ten shape features -> Mahalanobis distance between
    neighbouring blocks -> Hotelling's T2 -> borders that many block sizes, and neighbouring sections, agree on

`python -m meshgnn.borders`. numpy and scipy only.
"""
