"""What is written to the terminal."""
