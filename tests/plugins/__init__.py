"""One file for each thing that a user adds, as the user would write it: against the documented sockets, with no change
in the packages. `test_plugins.py` uses them.
"""
