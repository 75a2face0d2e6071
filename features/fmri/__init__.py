"""Networks over time: how windows of runs are learnt from before any trait is known."""
