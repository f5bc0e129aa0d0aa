"""What may not be stored, taken out of values before anything is."""
