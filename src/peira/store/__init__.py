"""What remains: the run directory, records, exports, archives."""
