"""What the SDK costs the application that it is in."""
