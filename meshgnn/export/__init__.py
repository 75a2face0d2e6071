"""Files for other programs: GIfTI, GraphML, CSV, the report. Takes records, knows no stage."""
