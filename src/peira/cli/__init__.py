"""The commands; each in a module of its own, loaded when asked for."""
