"""What an exchange says, without I/O."""
