"""What an encoder is trained for: one file per objective, behind `features.objectives.socket.Objective`."""
