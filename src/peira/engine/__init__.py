"""The work: planning, running, paying, remembering."""
