// SPDX-License-Identifier: Apache-2.0
// The source of an archive that can be read only once: a pipe, a socket, a terminal or a compressed
// file.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "importer/archive.h"
#include "importer/layer_receiver.h"

namespace lcfs::importer {

// One thread reads.  Errors name the archive.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // The next bytes; an empty slice at the end and at every call after that.
  virtual Result<Slice> next() = 0;
};

// An open archive: exactly one of `seekable` and `stream` is set.
struct OpenedArchive {
  std::string name{};  // as the user gave it; "standard input" for "-"
  std::unique_ptr<SeekableArchive> seekable{};
  // The plain bytes of a tar; read ahead by a thread of its own.
  std::unique_ptr<ByteSource> stream{};
  std::uint64_t size = 0;  // bytes of the file that `stream` reads; 0: unknown
};

// Opens a file, a directory, or standard input ("-"), and detects its form by content.  Errors:
// kInvalid "not a docker-archive, OCI archive or OCI layout (...)" and "is empty".  The
// reading thread of a stream calls `on_read` with the number of bytes read.
Result<OpenedArchive> open_archive(std::string const& path, Common& common,
                                   std::function<void(std::uint64_t)> on_read);

}  // namespace lcfs::importer
