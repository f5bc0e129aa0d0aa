"""The protocols that models are served with, each in a module of its own."""
