#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make_images.sh DIR: the images of the end-to-end tests; 77 if the tools for that are missing (in CI that is a failure).
for tool in umoci skopeo busybox; do
  command -v $tool >/dev/null || { echo "missing: $tool"; [ -n "${CI-}" ] && exit 1; exit 77; }
done
exec "$(dirname "$0")/../../scripts/make-image" "$1" --tree
