# What a fresh clone needs: `make serve` and `make test`.

PYTHON ?= python3
BROKER ?= rabbitmq
VENV := .venv
BIN := $(VENV)/bin

.PHONY: serve hybrid test docs clean help

help:
	@echo "make serve   install into $(VENV), then serve on 127.0.0.1:8888: no broker, SQLite in var/"
	@echo "make hybrid  the same with a private RabbitMQ and MongoDB, which it starts and stops; BROKER=qpid or redis: with those"
	@echo "make test    install what is missing (system packages too), then run lint, unit and functional tests"
	@echo "make docs    write docs/configuration.md, the lists of calls in docs/ and the samples in etc/ from the code"
	@echo "make clean   remove everything that the others have made"

serve: $(VENV)/.serve
	OS_SIDE_STORE__URI=sqlite:///var/marconi.db $(BIN)/marconi serve

hybrid: $(VENV)/.test
	functional/install-services.sh
	$(BIN)/python -m functional.hybrid --broker $(BROKER)

test: $(VENV)/.tox
	functional/install-services.sh
	$(BIN)/tox run

docs: $(VENV)/.test
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) .tox var build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Marconi needs Python 3.11 or later; name one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "No venv module; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.serve: $(VENV)/bin/python setup.py
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/.test: $(VENV)/bin/python setup.py
	$(BIN)/pip install --quiet --editable .[test]
	@touch $@ $(VENV)/.serve

$(VENV)/.tox: $(VENV)/bin/python setup.py
	$(BIN)/pip install --quiet "tox>=4"
	@touch $@
