# The commands people type; CONTRIBUTING.md says when.
.PHONY: setup unit test lint docs ci
python ?= python3
bin := .venv/bin

setup:
	$(python) -m venv .venv
	$(bin)/pip install -q -e '.[dev,docs,test,bucket,nas,hosts]'

unit:
	$(bin)/pytest -q -n 0 -m unit

test:
	$(bin)/pytest -q

lint:
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy

docs:
	$(bin)/python docs/make_reference.py
	$(bin)/python -m tests.docs.generated
	$(bin)/python -m sphinx -W -n -q docs site

ci:
	.ci/run
