"""Local models: per interval between two drawn sections a small U-Net, trained on those two alone, fills in the rest.

Situation -> intervals -> jobs (folders of files) -> one process each: train, predict -> one filling
"""
