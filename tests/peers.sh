#!/usr/bin/env bash
# Installs other people's programs that the tests talk to: Debian packages, a Python
# environment (.venv/peers), Node packages (tests/.peers). Quick where all of it is there.
#
# For a machine of the tests' own: where systemd runs, Debian starts what it installs (nginx, sshd, …).
# What cannot be had is named with its reason, and the tests that need it say so, too; under CI
# it is a failure.
set -uo pipefail
cd "$(dirname "$0")/.."

websockets=17.4
kosoku=0.1.0
validate=1.37.0
asyncssh=2.24.1
ws=8
ssh2=1
playwright=1.65.1
hdr=3
axe=4.14.1
venv=.venv/peers
node=tests/.peers
missing=0

lacks() {
  printf 'tests/peers.sh: no %s: %s\n' "$1" "$2" >&2
  missing=1
}

have() { PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null; }

last_line() { tail -n 1 <<<"$1"; }

# The command that a test starts, and the package that brings it.
debian_packages() {
  local wanted=() entry
  for entry in websocketd:websocketd nginx:nginx-light haproxy:haproxy caddy:caddy \
    prometheus:prometheus openssl:openssl pkg-config:pkg-config node:nodejs npm:npm python3:python3 chromium:chromium \
    ssh:openssh-client sshd:openssh-server dropbear:dropbear-bin tinysshd:tinysshd \
    tmux:tmux tcpserver:ucspi-tcp nft:nftables \
    systemd-analyze:systemd bwrap:bubblewrap setpriv:util-linux \
    debootstrap:debootstrap lintian:lintian rpm:rpm ip:iproute2 unshare:util-linux xz:xz-utils readelf:binutils; do
    have "${entry%%:*}" || wanted+=("${entry#*:}")
  done
  python3 -c 'import ensurepip, venv' 2>/dev/null || wanted+=(python3-venv)
  compgen -G '/usr/lib*/libnss_wrapper.so' >/dev/null || compgen -G '/usr/lib*/*/libnss_wrapper.so' >/dev/null ||
    wanted+=(libnss-wrapper)
  # Of Debian's own Python: the unit's seccomp filters and the image's.
  /usr/bin/python3 -c 'import seccomp' 2>/dev/null || wanted+=(python3-seccomp)
  # libssh2 is built upon it.
  pkg-config --exists openssl 2>/dev/null || wanted+=(libssl-dev)
  ((${#wanted[@]})) || return 0
  local why= said
  if ! have apt-get; then
    why="it is not installed, and there is no apt-get to install it"
  elif ((EUID != 0)); then
    why="only root can install it: apt-get install ${wanted[*]}"
  else
    echo "installing ${wanted[*]}"
    apt-get update -qq >/dev/null 2>&1
    # One at a time where all at once fails, so that one that is not there costs only itself.
    said=$(DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" 2>&1) &&
      return 0
    for entry in "${wanted[@]}"; do
      said=$(DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$entry" 2>&1) ||
        lacks "$entry" "apt-get: $(last_line "$said")"
    done
    return 0
  fi
  for entry in "${wanted[@]}"; do lacks "$entry" "$why"; done
}

python_packages() {
  local check='import sys; from importlib.metadata import version
for wanted in sys.argv[1:]:
    name, number = wanted.split("==")
    assert version(name) == number'
  local packages=("websockets==$websockets" "kosoku==$kosoku" "kubernetes-validate==$validate" "asyncssh==$asyncssh") said
  "$venv/bin/python" -c "$check" "${packages[@]}" 2>/dev/null && return 0
  echo "installing ${packages[*]} into $venv"
  if ! said=$(python3 -m venv "$venv" 2>&1); then
    lacks "Python packages" "python3 -m venv: $(last_line "$said")"
    return 0
  fi
  local entry
  for entry in "${packages[@]}"; do
    said=$("$venv/bin/pip" install --quiet --disable-pip-version-check "$entry" 2>&1) ||
      lacks "$entry" "pip: $(last_line "$said")"
  done
}

node_packages() {
  local packages=("ws@$ws" "ssh2@$ssh2" "playwright-core@$playwright" "axe-core@$axe" "hdr-histogram-js@$hdr") said entry there=1
  for entry in "${packages[@]}"; do [[ -f $node/node_modules/${entry%@*}/package.json ]] || there=0; done
  ((there)) && return 0
  if ! have npm; then
    lacks "packages for Node.js" "there is no npm to install them"
    return 0
  fi
  echo "installing ${packages[*]} into $node"
  mkdir -p "$node"
  # What is optional is C++ that would have to be compiled.
  said=$(npm install --prefix "$node" --omit=optional --no-audit --no-fund --loglevel=error "${packages[@]}" 2>&1) ||
    lacks "${packages[*]} for Node.js" "npm: $(last_line "$said")"
}

debian_packages
python_packages
node_packages
if ((missing)) && [[ -n ${CI:-} ]]; then
  echo "tests/peers.sh: under CI nothing may be missing" >&2
  exit 1
fi
