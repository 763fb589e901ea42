# Gureum: build, test, run, install. `make help` lists the targets.
# V=1 shows commands, SAN=1 builds with ASan and UBSan into build-san.

VERSION := 0.1.0
SAN ?= 0
FUZZ ?= 0
ifeq ($(FUZZ),1)
B := build-fuzz
CC := clang-14
else ifeq ($(SAN),1)
B := build-san
else
B := build
endif
CC ?= cc
PYTHON := /usr/bin/python3
prefix ?= /usr
DESTDIR ?=
libexecdir := $(prefix)/lib/gureum
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-4s %s\n' $(1) $(2))

PKGS := libvirt libvirt-qemu libnl-3.0 libnl-route-3.0 libxml-2.0 libsystemd jansson sqlite3 libmicrohttpd libcrypto ldns libseccomp libcap
# Evaluated once, and only when something is built.
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(shell pkg-config --cflags $(PKGS)))$(PKG_CFLAGS)

OUR_CFLAGS = -std=gnu17 -D_GNU_SOURCE -DGUREUM_VERSION='"$(VERSION)"' -Ilib -I$(B)/gen -Wall -Wextra -Wshadow -Werror \
	-Wno-missing-field-initializers -Wmissing-prototypes -Wstrict-prototypes -fno-strict-aliasing -fno-common $(PKG_CFLAGS) -pthread -MMD -MP
CFLAGS ?= -O2 -g
ifeq ($(SAN),1)
OUR_CFLAGS += -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined
OUR_LDFLAGS += -fsanitize=address,undefined
endif
ifeq ($(FUZZ),1)
# clang warns of other things than the compiler of record; only its instrumentation is wanted.
OUR_CFLAGS += -Wno-error -w -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OUR_LDFLAGS += -fsanitize=fuzzer,address,undefined
endif
HARDEN := -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
OUR_LDFLAGS += -pie -Wl,-z,relro,-z,now -Wl,--as-needed -Wl,--gc-sections -pthread
OUR_CFLAGS += -ffunction-sections -fdata-sections

LIBS_core := $(shell pkg-config --libs libsystemd jansson sqlite3 libcrypto expat 2>/dev/null)
LIBS_apid := $(shell pkg-config --libs libmicrohttpd 2>/dev/null)
LIBS_hvd := $(shell pkg-config --libs libvirt libvirt-qemu libxml-2.0 libmicrohttpd 2>/dev/null)
LIBS_netd := $(shell pkg-config --libs libnl-3.0 libnl-route-3.0 ldns libcap 2>/dev/null)
LIBS_stord := $(shell pkg-config --libs libseccomp libcap 2>/dev/null)
LIBS_cli :=

DAEMONS := apid hvd netd stord
LIB_SRC := $(wildcard lib/*.c)
AWS_SRC := $(wildcard lib/aws/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
AWS_OBJ := $(AWS_SRC:%.c=$(B)/%.o) $(B)/gen/aws-tables.o
UNIT_SRC := $(wildcard tests/unit/*.c)
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(B)/tests/unit/%)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:

all: $(foreach d,$(DAEMONS),$(B)/$(d)/$(d)) $(B)/cli/gureum $(B)/agent/gureum-agent ## build everything

$(AWS_OBJ): $(B)/gen/aws-tables.h
$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(OUR_CFLAGS) $(HARDEN) $(CFLAGS) -c -o $@ $<

# The AWS models become const tables; only lib/aws looks at them.
$(B)/gen/aws-tables.c: scripts/aws-models.py scripts/aws_patterns.py $(wildcard lib/aws/overlay*.json)
	@mkdir -p $(@D)
	$(call say,GEN,$@)
	$(Q)$(PYTHON) scripts/aws-models.py $(B)/gen
$(B)/gen/aws-tables.h: $(B)/gen/aws-tables.c ;
$(B)/gen/aws-tables.o: $(B)/gen/aws-tables.c
	$(call say,CC,$<)
	$(Q)$(CC) $(OUR_CFLAGS) -Ilib/aws $(HARDEN) $(CFLAGS) -c -o $@ $<

$(B)/libgureum.a: $(LIB_OBJ)
	$(Q)rm -f $@ && ar rcs $@ $^
$(B)/libaws.a: $(AWS_OBJ)
	$(Q)rm -f $@ && ar rcs $@ $^

define daemon_rules
$(1)_OBJ := $$(patsubst %.c,$(B)/%.o,$$(wildcard $(1)/*.c))
$(B)/$(1)/$(2): $$($(1)_OBJ) $(3) $(B)/libgureum.a
	$$(call say,LD,$$@)
	$$(Q)$$(CC) $$(OUR_LDFLAGS) $$(LDFLAGS) -o $$@ $$^ $$(LIBS_$(1)) $$(LIBS_core)
endef
$(eval $(call daemon_rules,apid,apid,$(B)/libaws.a))
$(eval $(call daemon_rules,hvd,hvd,))
$(eval $(call daemon_rules,netd,netd,))
$(eval $(call daemon_rules,stord,stord,))
$(eval $(call daemon_rules,cli,gureum,))

# The agent runs in guests of any kind: libc only, static.
AGENT_SRC := $(wildcard agent/*.c)
$(B)/agent/gureum-agent: $(AGENT_SRC) $(wildcard agent/*.h)
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) -std=gnu17 -D_GNU_SOURCE -DGUREUM_VERSION='"$(VERSION)"' -Wall -Wextra -Wshadow -Werror -Os -g -static -o $@ $(AGENT_SRC)

# A unit test may use a daemon's rooms: it is linked with all of that daemon's objects but main.o when its name begins with the daemon's ("netd_rules.c").
unit_daemon = $(firstword $(filter $(DAEMONS) agent,$(subst _, ,$(1))))
agent_OBJ := $(patsubst %.c,$(B)/%.o,$(AGENT_SRC))
$(filter $(B)/tests/unit/agent_%,$(UNIT_BIN)): $(agent_OBJ)
define unit_rules
$$(filter $(B)/tests/unit/$(1)_%,$$(UNIT_BIN)): $$(filter-out %/main.o,$$($(1)_OBJ))
endef
$(foreach d,$(DAEMONS),$(eval $(call unit_rules,$(d))))
$(B)/tests/unit/%: $(B)/tests/unit/%.o $(B)/libaws.a $(B)/libgureum.a | all
	$(call say,LD,$@)
	$(Q)$(CC) $(OUR_LDFLAGS) $(LDFLAGS) -o $@ $< $(if $(call unit_daemon,$*),$(filter-out %/main.o,$($(call unit_daemon,$*)_OBJ))) \
		$(B)/libaws.a $(B)/libgureum.a $(if $(call unit_daemon,$*),$(LIBS_$(call unit_daemon,$*))) $(LIBS_core)

# The codec behind a pipe, against botocore's serializers and parsers.
CODEC_DRIVER := $(B)/tests/codec/codec-driver
$(CODEC_DRIVER): $(B)/tests/codec/codec-driver.o $(B)/libaws.a $(B)/libgureum.a
	$(call say,LD,$@)
	$(Q)$(CC) $(OUR_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_core)

check: all $(UNIT_BIN) $(CODEC_DRIVER) ## run the unit and golden tests
	prove --exec '' $(UNIT_BIN)
	CODEC_DRIVER=$(CODEC_DRIVER) $(PYTHON) -m pytest -q -p no:cacheprovider tests/codec
	STORD=$(abspath $(B))/stord/stord $(PYTHON) -m pytest -q -p no:cacheprovider tests/stord

# A guest's stand-in for the packet tests.
$(B)/tests/net/tap-pump: $(B)/tests/net/tap-pump.o
	$(Q)$(CC) $(OUR_LDFLAGS) $(LDFLAGS) -o $@ $<

check-net: $(B)/netd/netd $(B)/tests/net/tap-pump ## packets through real taps, bridges and rules, in a network of their own (root)
	BUILD=$(abspath $(B)) tests/net/parts

$(B)/tests/bench/codec: $(B)/tests/bench/codec.o $(B)/libaws.a $(B)/libgureum.a
	$(Q)$(CC) $(OUR_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_core)
bench-codec: $(B)/tests/bench/codec ## how long the codec takes by itself
	@$<

# A fuzz target is a file of tests/fuzz; like a unit test it is linked with a daemon's objects when its name has the daemon's ("fuzz_apid_form.c").
FUZZ_SECONDS ?= 20
FUZZ_BIN := $(patsubst tests/fuzz/%.c,$(B)/tests/fuzz/%,$(wildcard tests/fuzz/*.c))
$(B)/tests/fuzz/%: $(B)/tests/fuzz/%.o $(B)/libaws.a $(B)/libgureum.a
	$(call say,LD,$@)
	$(Q)$(CC) $(OUR_LDFLAGS) $(LDFLAGS) -o $@ $< $(if $(call unit_daemon,$*),$(filter-out %/main.o,$($(call unit_daemon,$*)_OBJ))) \
		$(B)/libaws.a $(B)/libgureum.a $(if $(call unit_daemon,$*),$(LIBS_$(call unit_daemon,$*))) $(LIBS_core)
ifeq ($(FUZZ),1)
$(foreach f,$(FUZZ_BIN),$(eval $(f): $(if $(call unit_daemon,$(notdir $(f))),$(filter-out %/main.o,$($(call unit_daemon,$(notdir $(f)))_OBJ)))))
$(FUZZ_BIN:%=%.o): $(B)/gen/aws-tables.h
fuzz-run: $(FUZZ_BIN)
	@for f in $(FUZZ_BIN); do mkdir -p $$f.corpus; \
		$$f -max_total_time=$(FUZZ_SECONDS) -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix=$$f. $$f.corpus >$$f.log 2>&1 \
			|| { tail -60 $$f.log; echo "$$f failed"; exit 1; }; \
		echo "$$f: $$(sed -n 's/stat::number_of_executed_units: *//p' $$f.log) inputs, none fatal"; done
.PHONY: fuzz-run
endif

fuzz: ## feed strangers' bytes to every parser, FUZZ_SECONDS each
	$(MAKE) --no-print-directory FUZZ=1 fuzz-run

# What tests/run starts, without running it.
test-programs: all $(UNIT_BIN) $(CODEC_DRIVER) $(B)/tests/net/tap-pump

test: ## install what tests need, build, run every test
	@scripts/deps build run test
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@tests/run $(STAGES)

bench: all image $(B)/tests/net/tap-pump ## measure beside plain QEMU and the stated limits, write build/bench.json
	@scripts/deps run bench
	@tests/bench/bench.py --images $(B)/image $(BENCH)
	@STORD=$(abspath $(B))/stord/stord $(PYTHON) tests/bench/limits.py

# What is made once and kept: the Debian VM. A new package list makes it anew.
KVM_DIR ?= $(B)/kvm

test-kvm: all image ## the proof on real KVM and real systemd, in a Debian VM (minutes)
	@scripts/deps kvm
	@tests/kvm/build-vm $(KVM_DIR)/vm
	@rm -rf $(KVM_DIR)/install
	@$(MAKE) --no-print-directory install DESTDIR=$(abspath $(KVM_DIR))/install >/dev/null
	@tests/kvm/test-kvm --work $(KVM_DIR) --install $(KVM_DIR)/install --images $(B)/image

lint: ## the house's order, and what cppcheck finds
	@scripts/deps lint
	@scripts/check-rooms
	@scripts/check-members
	@cppcheck --quiet --error-exitcode=1 --enable=warning,portability --inline-suppr --include=scripts/cppcheck.h \
		--suppress=missingInclude --suppress=memleak --suppress=resourceLeak --suppress=preprocessorErrorDirective --suppress=varFuncNullUB -j$$(nproc) -Ilib $(DAEMONS) cli lib agent

deps: ## install what is missing of Debian's packages to build and run
	@scripts/deps build run

# The cloud of `make run`: everything it has is below this directory.
CLOUD ?= .cloud

image: $(B)/agent/gureum-agent ## build the default machine image
	@scripts/build-image --agent $< $(B)/image

image-debian: $(B)/agent/gureum-agent ## build the Debian image with cloud-init (a minute or three, once)
	@scripts/deps debian
	@scripts/build-debian-image --agent $< $(B)/debian

test-debian: all image image-debian ## boot the Debian image once: cloud-init from our metadata (minutes where guests are emulated)
	@scripts/deps run test
	@GUREUM_BUILD=$(abspath $(B)) GUREUM_DEBIAN=$(abspath $(B))/debian $(PYTHON) -m pytest -q -s -p no:cacheprovider tests/stack/debian.py

run: ## start the cloud in a private host and launch a first VM
	@scripts/deps build run
	@$(MAKE) --no-print-directory -j$$(nproc) all image
	@scripts/stack up --outside --state $(CLOUD) --build $(B)
	@scripts/first-vm --state $(CLOUD)

stop: ## end the cloud; its state stays in .cloud
	@scripts/stack down --state $(CLOUD)

unitdir := $(prefix)/lib/systemd/system
datadir := $(prefix)/share/gureum
mandir := $(prefix)/share/man
UNITS := $(notdir $(wildcard systemd/*.service systemd/*.socket systemd/*.target))
MAN := $(wildcard doc/man/*.[1-8])
IMAGE_FILES := $(wildcard scripts/image/*)

install: all ## put everything in place below DESTDIR
	install -d $(DESTDIR)$(libexecdir) $(DESTDIR)$(prefix)/bin $(DESTDIR)$(unitdir) $(DESTDIR)$(prefix)/lib/sysusers.d \
		$(DESTDIR)$(prefix)/lib/tmpfiles.d $(DESTDIR)/etc/gureum $(DESTDIR)$(datadir)/image $(DESTDIR)$(datadir)/debian-image $(DESTDIR)$(mandir)/man5
	install -m755 $(foreach d,$(DAEMONS),$(B)/$(d)/$(d)) $(B)/agent/gureum-agent $(DESTDIR)$(libexecdir)/
	install -m755 $(B)/cli/gureum $(DESTDIR)$(prefix)/bin/gureum
	for u in $(UNITS); do sed 's|/usr/lib/gureum/|$(libexecdir)/|' systemd/$$u > $(DESTDIR)$(unitdir)/$$u && chmod 644 $(DESTDIR)$(unitdir)/$$u || exit 1; done
	install -m644 systemd/gureum.sysusers $(DESTDIR)$(prefix)/lib/sysusers.d/gureum.conf
	install -m644 systemd/gureum.tmpfiles $(DESTDIR)$(prefix)/lib/tmpfiles.d/gureum.conf
	install -m755 scripts/build-image $(DESTDIR)$(datadir)/
	install $(IMAGE_FILES) $(DESTDIR)$(datadir)/image/
	install -m755 scripts/build-debian-image $(DESTDIR)$(datadir)/
	install -m644 $(wildcard scripts/debian-image/*) $(DESTDIR)$(datadir)/debian-image/
	awk -f scripts/config-man lib/config-table.h > $(DESTDIR)$(mandir)/man5/gureum.conf.5
	chmod 644 $(DESTDIR)$(mandir)/man5/gureum.conf.5
	for m in $(MAN); do install -D -m644 $$m $(DESTDIR)$(mandir)/man$${m##*.}/$${m##*/} || exit 1; done
	test -e $(DESTDIR)/etc/gureum/gureum.conf || { $(B)/cli/gureum config > $(DESTDIR)/etc/gureum/gureum.conf && \
		chmod 644 $(DESTDIR)/etc/gureum/gureum.conf; }

uninstall: ## take away what install put in place; configuration and state stay
	rm -rf $(DESTDIR)$(libexecdir) $(DESTDIR)$(datadir) $(DESTDIR)$(prefix)/bin/gureum
	rm -f $(UNITS:%=$(DESTDIR)$(unitdir)/%) $(DESTDIR)$(prefix)/lib/sysusers.d/gureum.conf \
		$(DESTDIR)$(prefix)/lib/tmpfiles.d/gureum.conf $(DESTDIR)$(mandir)/man5/gureum.conf.5
	for m in $(MAN); do rm -f $(DESTDIR)$(mandir)/man$${m##*.}/$${m##*/}; done

clean: ## remove everything that was built
	rm -rf build build-san build-fuzz

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: all check image-debian test-debian test-programs test bench test-kvm lint deps image run stop install uninstall fuzz bench-codec clean help

-include $(shell find $(B) -name kvm -prune -o -type f -name '*.d' -print 2>/dev/null)
