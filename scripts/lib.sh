# SPDX-License-Identifier: Apache-2.0
# What the scripts share; sourced by bash.
# shellcheck shell=bash
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
exec </dev/null # nothing here asks

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo -n "$@"
  else
    echo "$0: needs root, or sudo, for: $*" >&2
    return 1
  fi
}

# need PURPOSE...: installs what scripts/packages lists for these and is not there.
need() {
  local wanted missing=() package
  wanted=$(awk -v purposes=" $* " '!/^#/ && NF >= 2 && index(purposes, " " $2 " ") { print $1 }' "$root/scripts/packages")
  for package in $wanted; do
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if ! command -v apt-get >/dev/null; then
    echo "$0: no apt-get here; it may lack: ${missing[*]}" >&2
    return 0
  fi
  echo "installing ${missing[*]}"
  as_root apt-get update -q >/dev/null
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
}

# configure PRESET [OPTION...]
configure() {
  local preset=$1 launcher=()
  shift
  ! command -v ccache >/dev/null || launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  (cd "$root" && cmake --preset "$preset" "${launcher[@]}" "$@" >/dev/null)
}
