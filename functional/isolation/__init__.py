"""Projects can't reach each other, and nobody can write into logs and headers, or read secrets there."""
