// SPDX-License-Identifier: Apache-2.0
// The files in an archive, offered to a healer: whatever form it has.
//
// A docker or OCI archive, its directory, a layer's tar alone; each of them plain, gzip or zstd.
// Every tar is read, also one inside another, and every file in it offered: which one is right is
// told by checksums, so nothing need be known of manifests.
#pragma once

#include <string>

#include "format/result.h"
#include "fsck/heal.h"

namespace lcfs::importer {

// `archive`: a path, or "-" for `input`.  What is no tar is passed over; errors are those of
// reading the archive, and the healer's.
Status offer_archive(fsck::Healer& healer, std::string const& archive, int input);

}  // namespace lcfs::importer
