"""The models: one interface, whatever serves them."""
