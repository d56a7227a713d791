# SPDX-License-Identifier: Apache-2.0
# Sourced: packages of any suite and architecture of Debian, by apt, which verifies Debian's signatures, from the mirrors
# that this machine's own apt sources name. apt's state for this is apart, in a folder; the machine's is not touched.
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
fail() { echo "$0: $*" >&2; exit 1; }

# The mirror for a suite: that from which this machine gets the like of it for its own release.
mirror() { # SUITE
  local own=${VERSION_CODENAME:-} found
  [ -n "$own" ] || own=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  case $1 in *-security) own+=-security ;; esac
  # shellcheck disable=SC2016 # apt's fields, not the shell's
  found=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
    awk -v own="$own" '$1 == own && $2 == "main" {print $3; exit}')
  [ -n "$found" ] || fail "the apt sources of this machine name no Debian mirror (suite '$own', component main):" \
    "without one there is nothing to get packages from"
  echo "$found"
}

# apt that knows the suites of look_at alone, of one architecture, and nothing that is installed.
apart() { # STATE COMMAND...
  local state=$1 command=$2 architecture
  architecture=$(cat "$1/architecture") || return
  shift 2
  "$command" -q -o Dir::State="$state" -o Dir::State::Lists="$state/lists" -o Dir::State::status="$state/status" \
    -o Dir::Cache="$state" -o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o APT::Architecture="$architecture" -o APT::Architectures::="$architecture" -o APT::Sandbox::User=root \
    -o APT::Update::Error-Mode=any -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}
look_at() { # STATE ARCHITECTURE SUITE...
  local state=$1 architecture=$2 suite from
  mkdir -p "$state/lists/partial" "$state/archives/partial"
  : > "$state/status"
  : > "$state/sources.list"
  echo "$architecture" > "$state/architecture"
  for suite in "${@:3}"; do
    from=$(mirror "$suite") || exit 1
    echo "deb [signed-by=$keyring arch=$architecture target=Packages] $from $suite main" >> "$state/sources.list"
  done
  apart "$state" apt-get update >&2
}

[ -s "$keyring" ] || fail "no $keyring: install debian-archive-keyring"
