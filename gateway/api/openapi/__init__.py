"""The OpenAPI document: what the tables of operations and endpoints say, as other programs read it.

``schema.py`` is the form in which the tables write what is in a body; ``parameters.py``, ``errors.py``, ``security.py``
and ``about.py`` have what is the same for all operations; ``document.py`` puts it together.
"""
