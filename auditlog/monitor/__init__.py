"""Follows any log from outside, and keeps what proves that it lied."""
