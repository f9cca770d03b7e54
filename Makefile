# The verbs of this project. People, CI and the documents call the same ones; `make help` lists them. In brackets at the
# end of a help text: the duration on two processors, then the needs besides Python; CONTRIBUTING.md repeats them.
SHELL := /bin/bash
.SHELLFLAGS := -o errexit -o nounset -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest

##@ Start

.PHONY: help
help: ## list the verbs
	@awk -F ':.*## ' '/^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' \
		$(firstword $(MAKEFILE_LIST))

.PHONY: run
run: $(BIN)/.installed build.json ## serve the application, by default on an SQLite file (seconds)
	@bin/flask schema ready
	@exec $(BIN)/gunicorn --config gunicorn.conf.py 'app:create_app()'

.PHONY: version
version: ## print the version of a build of this checkout
	@$(PYTHON) -m release version

##@ Test

# tests/conftest.py sets the number of processes. A process that runs out of tests takes some of another process.
SIDE_BY_SIDE := --numprocesses auto --dist worksteal
# The tests that need neither Docker nor Packer, and boot nothing.
OF_THE_APPLICATION := -m 'not container and not ami and not vm and not packer and not stack and not drill'

.PHONY: test
test: $(BIN)/.installed-tests ## run the tests, or TESTS=PATH for a part in seconds (10 min; PostgreSQL, Chromium, root)
	@tests/install-packages tests/packages.txt
	@$(PYTEST) $(SIDE_BY_SIDE) $(OF_THE_APPLICATION) $(TESTS)

.PHONY: test-matrix
test-matrix: $(BIN)/.installed-tests ## run `make run` and `make test` in fresh Debian 13 and 12 (1 h; root)
	@tests/install-packages tests/packages.container.txt
	@$(BIN)/python -m tests.tools.matrix $(OPTIONS)

.PHONY: test-packer
test-packer: $(BIN)/.installed-tests ## test the release tool and the AMI's template with Packer (minutes; Packer)
	@tests/install-packages tests/packages.txt tests/packages.check.txt
	@$(PYTEST) $(SIDE_BY_SIDE) -m 'packer and not ami' $(TESTS)

.PHONY: test-container
test-container: $(BIN)/.installed-tests ## test the container image and the compose file (3 min; Docker)
	@tests/install-packages tests/packages.txt tests/packages.container.txt
	@$(PYTEST) -m container $(TESTS)

.PHONY: test-ami
test-ami: $(BIN)/.installed-tests ## bake an AMI on a rehearsal, boot it and test it (16 min; root, Docker, Packer)
	@tests/install-packages tests/packages.txt tests/packages.ami.txt tests/packages.check.txt
	@$(PYTEST) -m ami $(TESTS)

.PHONY: test-stack
test-stack: $(BIN)/.installed-tests ## apply terraform/ to a rehearsal without machines; not in .ci/run (10 min; root, Terraform)
	@$(PYTEST) -m stack $(TESTS)

.PHONY: drill
drill: $(BIN)/.installed-tests ## run the proofs of which `make test` runs a sample; not in .ci/run (10 min; PostgreSQL, root)
	@tests/install-packages tests/packages.txt
	@$(PYTEST) $(SIDE_BY_SIDE) -m drill $(TESTS)

.PHONY: test-vm
test-vm: $(BIN)/.installed-tests ## boot the AMI with its own kernel; not in .ci/run (11 min; root, Docker, Packer, QEMU)
	@tests/install-packages tests/packages.txt tests/packages.check.txt tests/packages.ami.txt tests/packages.vm.txt
	@$(PYTEST) -m vm $(TESTS)

.PHONY: check
check: $(BIN)/.installed-tests ## run every check of style, types, wording, files, packages and secrets (1 min; Packer)
	@$(BIN)/flake8 .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports --no-cache --no-logo
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/yamllint --strict .
	@$(BIN)/check-jsonschema --builtin-schema vendor.renovate renovate.json
	@$(BIN)/check-jsonschema --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci .gitlab-ci.yml
	@$(BIN)/shellcheck .ci/run tests/facts tests/install-packages
	@FLASK_SKIP_DOTENV=1 bin/flask schema check
	@$(MAKE) check-words
	@$(MAKE) check-requirements
	@$(MAKE) check-packer
	@$(BIN)/python -m tests.tools.audit $(LOCKS)
	@git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook $(NO_SECRETS)

# The Pythons on which everything here installs, whether this machine has them or not.
PYTHONS := 3.11 3.12 3.13 3.14
# flake8-quotes is published as source only, and needs no compiler.
RESOLVE := $(BIN)/uv pip install --quiet --dry-run --require-hashes --only-binary :all: --no-binary flake8-quotes

.PHONY: check-words
check-words: $(BIN)/.installed-tests ## check spelling and wording, or WORDS=PATH for a part (seconds)
	@git ls-files -z -- $(WORDS) | xargs -0 $(BIN)/codespell
	@$(BIN)/python -m tests.tools.words $(WORDS)

.PHONY: check-requirements
check-requirements: $(BIN)/.installed-tests ## check that the locked packages install on each supported Python (seconds)
	@for python in $(PYTHONS); do for file in $$(git ls-files '*requirements*.txt'); do \
		$(RESOLVE) --python $(BIN)/python --python-version $$python --python-platform linux --target build/none \
			--requirement $$file || { echo "$$file does not install on Python $$python; make requirements locks it again" >&2; exit 1; }; \
	done; done
	@for platform in macos aarch64-unknown-linux-gnu; do \
		$(RESOLVE) --python $(BIN)/python --python-platform $$platform --target build/none --requirement requirements.txt; \
	done

.PHONY: check-packer
check-packer: export PATH := $(abspath $(BIN)):$(PATH)
check-packer: export CHECKPOINT_DISABLE := 1
check-packer: $(BIN)/.installed-tests ## check the AMI's template and playbooks (seconds; Packer)
	@tests/install-packages tests/packages.check.txt
	@packer fmt -check packer || { echo 'packer fmt packer formats it' >&2; exit 1; }
	@packer validate -var=region=eu-central-1 -var=base_ami=ami-0123456789abcdef0 -var='ssh_source_cidrs=["198.51.100.7/32"]' packer
	@cd packer/ansible && ansible-lint --nocolor -qq

# Providers come from a mirror folder of this machine if it has one, else from their registry.
TERRAFORM_PROVIDERS := $(patsubst %/registry.terraform.io,%,$(firstword $(wildcard /*/registry.terraform.io /*/*/registry.terraform.io)))
TERRAFORM_INIT := terraform init -input=false -no-color $(addprefix -plugin-dir=,$(TERRAFORM_PROVIDERS))

.PHONY: check-terraform
check-terraform: export CHECKPOINT_DISABLE := 1
check-terraform: ## check the stack and its security, and test its modules (3 min; Terraform)
	@command -v terraform >/dev/null || { echo 'terraform is missing: Terraform 1.11 or newer, from https://developer.hashicorp.com/terraform/install' >&2; exit 1; }
	@terraform fmt -check -recursive terraform || { echo 'terraform fmt -recursive terraform formats them' >&2; exit 1; }
	@mkdir --parents build
	@cd terraform && $(TERRAFORM_INIT) -backend=false -lockfile=readonly > ../build/terraform-init.log \
		|| { cat ../build/terraform-init.log >&2; echo 'no provider: let this machine reach registry.terraform.io' >&2; exit 1; }
	@cd terraform && terraform validate -no-color
	@$(MAKE) build/checkov/.installed
	@build/checkov/bin/checkov --directory terraform --quiet --compact
	@for module in terraform/bootstrap/tests terraform/modules/*/tests; do \
		( cd "$$module/.." && echo "testing $${module%/tests}" && $(TERRAFORM_INIT) > /dev/null && terraform test -no-color ) || exit 1; \
	done

# Not in the gate: the Go proxy has no rules for AWS, and the compilation takes five minutes. The rest rarely finds anything.
TFLINT := github.com/terraform-linters/tflint@v0.64.0

.PHONY: check-tflint
check-tflint: $(BIN)/tflint ## check the style of the stack with tflint; not in .ci/run (5 min, then seconds; Go)
	@$(abspath $(BIN)/tflint) --chdir=terraform --recursive

.PHONY: coverage
coverage: $(BIN)/.installed-tests ## run the tests and report the branch coverage of visitors/ (longer than test; PostgreSQL, Chromium, root)
	@tests/install-packages tests/packages.txt
	@rm --force .coverage .coverage.*
	@mkdir --parents build
	@$(BIN)/coverage run -m pytest $(SIDE_BY_SIDE) $(OF_THE_APPLICATION) --junit-xml build/junit.xml
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage xml --quiet -o build/coverage.xml
	@$(BIN)/coverage report --fail-under 95

.PHONY: benchmark
benchmark: $(BIN)/.installed-tests ## benchmark pages and statements; OPTIONS='--rows 10000' (minutes; PostgreSQL)
	@tests/install-packages benchmarks/packages.txt
	@$(BIN)/python -m benchmarks $(OPTIONS)

.PHONY: bake-benchmark
bake-benchmark: $(BIN)/.installed-tests ## benchmark bakes and boots (15 min; root, Docker, Packer)
	@tests/install-packages tests/packages.txt tests/packages.ami.txt tests/packages.check.txt
	@$(BIN)/python -m benchmarks.bake $(OPTIONS)

.PHONY: mutation
mutation: $(BIN)/.installed-tests ## test the tests by changing the code that counts and decides (1 h; PostgreSQL)
	@tests/install-packages tests/packages.txt
	@rm --recursive --force mutants
	@nice $(BIN)/mutmut run --max-children 2
	@nice $(BIN)/python -m tests.tools.mutation

.PHONY: simulate
simulate: $(BIN)/.installed-tests ## simulate 10,000 releases of groups of 1 to 2,000 instances (2 min); OPTIONS='--seed 7'
	@nice $(BIN)/python -m tests.tools.simulate $(OPTIONS)

# The locks: files of pinned packages.
LOCKS := requirements.txt requirements.test.txt release/requirements.txt packer/ansible/requirements.txt terraform/requirements.txt

# Text that only looks like a secret, by its form: pinned hashes, names of revisions, URLs that show the place of a
# password, names of secrets at AWS, and ids that cannot exist. A single place has `pragma: allowlist secret` on its line.
NO_SECRETS := --exclude-files 'requirements[a-z.]*\.txt$$' --exclude-lines "revision = '[0-9a-f]{12}'" \
	--exclude-lines '://USER:PASSWORD@' --exclude-lines 'arn:aws:secretsmanager:' --exclude-lines '0123456789abcdef'

##@ Ship

# The image's name without its tag, and a base other than the Dockerfile's; compose reads both from the same place.
NAME ?= visitors
PYTHON_IMAGE ?= $(shell sed -n 's/^PYTHON_IMAGE=//p' .env 2>/dev/null)

# CREATED is the moment of the commit, because then the same commit makes the same image, and that is baked once.
.PHONY: image
image: ## build the container image, tagged with its version (Docker)
	@tag="$(NAME):$$($(PYTHON) -m release version --tag)"; \
	docker build --tag "$$tag" --tag $(NAME):latest $(addprefix --build-arg PYTHON_IMAGE=,$(PYTHON_IMAGE)) \
		--build-arg VERSION="$$($(PYTHON) -m release version)" \
		--build-arg REVISION="$$(git rev-parse HEAD)" \
		--build-arg CREATED="$$(TZ=UTC git show --no-patch --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ)" .; \
	echo "built $$tag"

.PHONY: archive
archive: $(BIN)/.installed-release image ## save the container image to build/images, for a bake elsewhere (Docker)
	@$(BIN)/python -m release archive "$(NAME):$$($(PYTHON) -m release version --tag)"

.PHONY: bake
bake: $(BIN)/.installed-release $(if $(ARCHIVE),,image) ## bake a released AMI on AWS; ARCHIVE=FILE for a saved image (Packer, AWS)
	@tests/install-packages tests/packages.check.txt
	@$(BIN)/python -m release bake $(OPTIONS) \
		$(if $(ARCHIVE),--archive '$(wildcard $(ARCHIVE))',--image "$(NAME):$$($(PYTHON) -m release version --tag)")

.PHONY: remove-ami
remove-ami: $(BIN)/.installed-release ## remove a broken AMI, after confirmation; AMI=ID or input hash, OPTIONS=--yes (AWS)
	@$(BIN)/python -m release remove $(OPTIONS) '$(AMI)'

.PHONY: diff
diff: $(BIN)/.installed-release ## compare the running AMI with the newest, or OPTIONS='A B' (AWS)
	@$(BIN)/python -m release diff $(OPTIONS)

.PHONY: roll
roll: $(BIN)/.installed-release ## roll the newest release to the group GROUP, behind URL (AWS)
	@$(BIN)/python -m release roll $(addprefix --group=,$(GROUP)) $(addprefix --url=,$(URL)) $(OPTIONS)

.PHONY: rollback
rollback: $(BIN)/.installed-release ## return the group GROUP to the release before, behind URL (AWS)
	@$(BIN)/python -m release rollback $(addprefix --group=,$(GROUP)) $(addprefix --url=,$(URL)) $(OPTIONS)

.PHONY: status
status: $(BIN)/.installed-release ## show the group GROUP on one screen; OPTIONS=--watch repeats it (AWS)
	@$(BIN)/python -m release status $(addprefix --group=,$(GROUP)) $(OPTIONS)

.PHONY: prune
prune: $(BIN)/.installed-release ## show unneeded AMIs, template versions and snapshots; OPTIONS=--yes removes them (AWS)
	@$(BIN)/python -m release prune $(OPTIONS)

.PHONY: sweep
sweep: $(BIN)/.installed-release ## show the leftovers of dead bakes; OPTIONS=--yes removes them (AWS)
	@$(BIN)/python -m release sweep $(OPTIONS)

# The former name of remove-ami, for one release. `flask purge` forgets visitors.
.PHONY: purge
purge:
	@echo 'make purge: this verb is now called `make remove-ami AMI=ID`; nothing was done' >&2; exit 2

# The environment of the stack, the bucket of its state, and the folder of the plans.
ENVIRONMENT ?= staging
STATE_BUCKET ?=
PLANS ?= build/plan
PLAN = $(abspath $(PLANS))/$(ENVIRONMENT)

.PHONY: plan
plan: state ## plan ENVIRONMENT=NAME with AMI=ID and DEPLOY=NUMBER, or those of its last apply (Terraform, AWS)
	@mkdir --parents '$(PLANS)'
	@cd terraform && ami='$(AMI)' deploy='$(DEPLOY)' && terraform plan -input=false -no-color -out='$(PLAN).tfplan' \
		-var-file='environments/$(ENVIRONMENT).tfvars' -var=ami_id="$${ami:-$$(terraform output -raw ami_id)}" \
		-var=deploy_number="$${deploy:-$$(terraform output -raw deploy_number)}" $(OPTIONS)
	@cd terraform && terraform show -json '$(PLAN).tfplan' | $(PYTHON) ../release/plan_report.py > '$(PLAN).json'

.PHONY: review
review: ## plan by the state alone, without lock and secrets, as a merge request does (Terraform, AWS)
	@$(MAKE) plan OPTIONS='-refresh=false -lock=false'

.PHONY: drift
drift: ## fail if an environment differs from its last apply (Terraform, AWS)
	@$(MAKE) plan OPTIONS=-detailed-exitcode || { echo 'the environment $(ENVIRONMENT) differs from its last apply' >&2; exit 1; }

.PHONY: apply
apply: state ## apply exactly the plan of `make plan`; ENVIRONMENT=NAME (Terraform, AWS)
	@cd terraform && terraform apply -input=false -no-color '$(PLAN).tfplan'

.PHONY: state
state:
	@test -n '$(STATE_BUCKET)' || { echo 'STATE_BUCKET is missing: the output state_bucket of terraform/bootstrap' >&2; exit 1; }
	@mkdir --parents build
	@cd terraform && $(TERRAFORM_INIT) -reconfigure -lockfile=readonly -backend-config=bucket='$(STATE_BUCKET)' \
		-backend-config=key='$(ENVIRONMENT).tfstate' -backend-config=region="$$AWS_REGION" > ../build/terraform-init.log \
		|| { cat ../build/terraform-init.log >&2; exit 1; }

.PHONY: up
up: compose .env image ## start the application and a PostgreSQL by compose; make .env with new secrets (Docker)
	@docker compose up --detach --wait
	@echo "serving on http://$$(docker compose port application 8000)"

# Debian's docker.io brings no Compose, and Debian 12's docker-compose is the 1.29 that rejects today's files.
.PHONY: compose
compose:
	@command -v docker >/dev/null || { echo 'no docker command: apt-get install docker.io, on Debian 13 docker-cli as well;' \
		'elsewhere see https://docs.docker.com/engine/install' >&2; exit 1; }
	@docker compose version >/dev/null 2>&1 || { echo 'docker has no compose command (Compose v2). Its package:' \
		'docker-compose on Debian 13, docker-compose-v2 on Ubuntu, docker-compose-plugin among Docker'\''s own, which are' \
		'for Debian 12, too: https://docs.docker.com/engine/install/debian' >&2; exit 1; }

.PHONY: down
down: compose ## stop the containers of `make up`; the data stay (Docker)
	@docker compose down

##@ Maintain

# The update bot reads the command of each lock from its first lines.
# One lock serves every interpreter and platform: --universal keeps their packages beside markers, with all hashes.
LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes

.PHONY: requirements
requirements: $(BIN)/.installed-tests ## lock the newest versions of the packages in requirements*.in
	@for folder in . release packer/ansible terraform; do \
		$(LOCK) --output-file $$folder/requirements.txt $$folder/requirements.in; \
	done
	@$(LOCK) --output-file requirements.test.txt requirements.test.in

.PHONY: authorities
authorities: $(BIN)/.installed-tests ## renew the authorities of RDS that the AMI contains (seconds; npm)
	@$(BIN)/python -m tests.tools.authorities
	@sha256sum packer/ansible/roles/application/files/etc/visitors/database-ca.pem

.PHONY: clean
clean: ## remove the files that make writes; the embedded database stays
	@rm --recursive --force .venv build build.json mutants .mypy_cache .pytest_cache .hypothesis .coverage*

# The targets below serve the verbs above and are not called by hand.

# Made once, because with another key every visitor would be new.
.env: | .env.example
	@umask 077; sed \
		-e "s/^VISITOR_KEY=$$/VISITOR_KEY=$$($(PYTHON) -c 'import secrets; print(secrets.token_hex(32))')/" \
		-e "s/^POSTGRES_PASSWORD=$$/POSTGRES_PASSWORD=$$($(PYTHON) -c 'import secrets; print(secrets.token_hex(32))')/" \
		.env.example > $@
	@echo 'made .env with new secrets; keep it'

build.json: .FORCE
	@$(PYTHON) -m release version --json > $@ || { rm --force $@; echo 'so the version has no build number'; }

.PHONY: .FORCE
.FORCE:

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	@$(PYTHON) -m venv .venv || { echo 'no venv module: apt-get install python3-venv'; rm -rf .venv; exit 1; }

$(BIN)/.installed: requirements.txt | $(BIN)/python
	@echo 'installing the application into .venv'
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.txt
	@touch $@

$(BIN)/.installed-release: release/requirements.txt packer/ansible/requirements.txt $(BIN)/.installed
	@echo 'installing the packages of the release tool into .venv'
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes \
		--requirement release/requirements.txt --requirement packer/ansible/requirements.txt
	@touch $@

build/checkov/.installed: terraform/requirements.txt
	@echo 'installing checkov into build/checkov'
	@$(PYTHON) -m venv build/checkov
	@build/checkov/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

$(BIN)/tflint:
	@command -v go >/dev/null || { echo 'go is missing: https://go.dev/doc/install' >&2; exit 1; }
	@GOBIN='$(abspath $(BIN))' go install $(TFLINT)

$(BIN)/.installed-tests: requirements.test.txt tests/botocore-1.37.txt $(BIN)/.installed-release
	@echo 'installing the tools of tests and checks into .venv'
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.test.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --upgrade \
		--requirement tests/botocore-1.37.txt --target .venv/botocore-1.37
	@touch $@
