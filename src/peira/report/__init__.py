"""How it is told: tables, figures, documents."""
