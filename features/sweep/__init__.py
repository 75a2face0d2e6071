"""What pretraining is worth: networks from scratch and pretrained ones at growing numbers of subjects."""
