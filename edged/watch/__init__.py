"""How the device is doing. Verdicts only; what is done about them is the daemon's business."""
