"""Training of every video tower on videos and images."""
