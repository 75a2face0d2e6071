"""Data of subjects as items, one per subject: volumes, connectivity, tables. numpy only, no torch."""
