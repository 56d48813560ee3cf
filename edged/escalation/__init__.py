"""What the device cannot answer: a courier that carries tickets to a cloud model, and the client it uses."""
