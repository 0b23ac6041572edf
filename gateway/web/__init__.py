"""What every HTTP front end shares."""
