// SPDX-License-Identifier: Apache-2.0
// Offers the files of an archive of any form to a healer.
//
// A docker or OCI archive, its directory, or the tar of one layer; each of them plain, gzip or
// zstd. Reads every tar, including tars inside tars, and offers every file in it.  Checksums decide
// which file matches, so manifests are not needed.
#pragma once

#include <string>

#include "base/result.h"
#include "fsck/healer.h"

namespace lcfs::heal {

// `archive`: a path, or "-" for `input`.  Skips members that are not tars.  Errors: those of
// reading the archive, and those of the healer.
Status offer_archive(fsck::Healer& healer, std::string const& archive, int input);

}  // namespace lcfs::heal
