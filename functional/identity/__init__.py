"""A real Keystone: who is let in, who may do what, and the existing clients with nothing but a clouds.yaml."""
