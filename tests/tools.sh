#!/usr/bin/env bash
# Compiles the tools of cargo's that tests/run uses where they are there: those that are missing.
set -euo pipefail

have() { command -v "$1" >/dev/null; }

have cargo-fuzz || cargo install --quiet cargo-fuzz --locked --version 0.13.2
# Each of the others runs once: what takes less time to compile is quicker.
install_quickly() { CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off cargo install --quiet --locked "$@"; }
have cargo-deb || install_quickly cargo-deb --version 3.8.0 --no-default-features
have cargo-generate-rpm || install_quickly cargo-generate-rpm --version 0.21.1
have mdbook || install_quickly mdbook --version 0.5.4 --no-default-features --features search
