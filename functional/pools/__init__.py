"""Several pools under load: what one of them suffers is no matter of the others."""
