"""What makes the wheel."""
