.PHONY: help setup demo test docs slow faults soak conformance rules ray prometheus programs lint type train evidence evidence-quick loop serve load bench bench-peers check-deploy audit clients client-types container-test clean
.DEFAULT_GOAL := help

PYTHON ?= python3
BUNDLE ?= bundles/ranklens
RUN := .venv/bin/python
WHERE := import sysconfig; print(sysconfig.get_path("purelib"))

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: .venv/installed  ## create .venv and install everything needed without an accelerator

.venv/installed: pyproject.toml client/pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet -c constraints.txt --editable '.[cpu,train,loadtest,otel,bench,docs,dev]' --editable ./client
	touch $@
	@echo 'Installed in .venv: `. .venv/bin/activate` makes its python the one you call.'

demo: setup  ## train quickly, export, serve and re-rank real lists
	$(RUN) demo.py

test: setup prometheus programs  ## all tests, a real Redis included, file by file in two processes
	$(RUN) -m pytest --numprocesses 2 --dist loadfile

docs: setup  ## the site of docs/ into build/docs, with its references made anew; a broken link fails
	$(RUN) -m reference
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build
	$(RUN) -m pytest tests/reference

slow: setup  ## tests that ask more of what others ask already, minutes
	$(RUN) -m pytest -m slow

faults: setup  ## break everything around a service of BUNDLE under load, and count; twenty minutes, on an idle machine
	$(RUN) -m pytest -m faults
	$(RUN) -m faults --bundle $(BUNDLE)

soak: setup  ## good and bad callers for a quarter of an hour; does the service of BUNDLE grow?
	$(RUN) -m faults.soak --bundle $(BUNDLE)

conformance: setup  ## ten thousand generated requests to every route, held against its own OpenAPI document
	$(RUN) -m pytest -m conformance

rules: setup  ## a hundred thousand generated requests with rules for the list, every answer checked; minutes
	$(RUN) -m pytest -s -m rules

ray: setup  ## what runs on Ray, on one it starts; installs the extra `ray`
	.venv/bin/pip install --quiet -c constraints.txt --editable '.[ray]'
	$(RUN) -m pytest -m ray

prometheus: setup  ## prometheus and promtool, for the tests, unless they are on the PATH
	$(RUN) -m deploy.prometheus.local

programs: setup  ## a browser and load balancers for the tests, unless they are on the PATH; root on Debian
	$(RUN) -m launch.debian chromium haproxy nginx

lint: setup  ## ruff
	.venv/bin/ruff check . && .venv/bin/ruff format --check .

type: setup  ## mypy
	.venv/bin/mypy

train: setup  ## train fully on RankLens and export
	$(RUN) -m model.train --config configs/ranklens.toml --run runs/ranklens
	$(RUN) -m export --run runs/ranklens --bundle bundles/ranklens

evidence: setup  ## every comparison of docs/results.md; hours, continues where it stopped
	$(RUN) -m evidence
	$(RUN) -m evidence.timing
	$(RUN) -m evidence.report

evidence-quick: setup  ## one data set, one seed, the comparisons that decide; minutes, written to reports/
	$(RUN) -m evidence --quick

loop: setup  ## people, service and training in a circle, in the simulator; hours, continues where it stopped; options in LOOP
	$(RUN) -m loop $(LOOP)

serve: setup  ## serve BUNDLE
	$(RUN) -m service --bundle $(BUNDLE)

load: setup  ## load test of BUNDLE against a service it starts, report into reports/load; options in LOAD
	$(RUN) -m loadtest --bundle $(BUNDLE) $(LOAD)

check-deploy: setup prometheus  ## what can be checked of the deployment files without a registry or an engine
	.venv/bin/pip install --quiet -c constraints.txt --editable '.[deploy]'
	.venv/bin/hadolint --failure-threshold warning Dockerfile
	.venv/bin/docker-compose --profile load --profile train config --quiet
	.venv/bin/docker-compose -f docker-compose.yml -f deploy/haproxy/compose.yml config --quiet
	.venv/bin/kubernetes-validate --strict -k 1.32 deploy/kubernetes/deployment.yaml \
		deploy/kubernetes/service.yaml deploy/kubernetes/scaling.yaml deploy/kubernetes/network.yaml
	$(RUN) -m pytest tests/deploy

audit: setup  ## known weaknesses of the pinned packages; says aloud when no source of them answers
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet pip-audit
	build/audit/bin/python -m deploy.audit

clients: setup  ## other APIs' public clients against the service, in an environment of their own over .venv
	$(RUN) -m venv build/clients
	$(RUN) -c '$(WHERE)' > "$$(build/clients/bin/python -c '$(WHERE)')/project.pth"
	build/clients/bin/pip install --quiet --editable '.[clients]'
	build/clients/bin/python -c 'import cohere, llama_index.postprocessor.jinaai_rerank, tritonclient.http'
	build/clients/bin/python -m pytest tests/service/api/test_other_clients.py

client-types: setup  ## TypeScript types of the API of a service of BUNDLE, and their example run against it; Node.js
	PYTHONPATH=. $(RUN) client/typescript/make_types.py --bundle $(BUNDLE)

container-test: setup  ## build the images on a stand-in base and re-rank through them; root on Debian
	$(RUN) -m deploy.container_test $(if $(wildcard $(BUNDLE)),--bundle $(BUNDLE))

bench: setup  ## measure engine, service and memory on BUNDLE; minutes; writes docs/performance.md
	$(RUN) -m bench --bundle $(BUNDLE)

bench-peers: setup  ## the same beside LitServe, BentoML and Ray Serve, which it installs under build/
	$(RUN) -m bench.peers --bundle $(BUNDLE)
	$(RUN) -m bench.report

clean:  ## remove the environment and all that was built
	rm -rf .venv build runs bundles reports *.egg-info
