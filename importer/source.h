// SPDX-License-Identifier: Apache-2.0
// Where an archive's bytes come from when they come only once: a pipe, a socket, a terminal, or a
// compressed file.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "format/result.h"
#include "importer/archive.h"
#include "importer/layer_receiver.h"

namespace lcfs::importer {

// One thread reads.  Errors name the archive.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // The next bytes; an empty slice at the end, again and again.
  virtual Result<Slice> next() = 0;
};

// What was opened: exactly one of the two.
struct OpenedArchive {
  std::string name{};  // as the user gave it; "standard input" for "-"
  std::unique_ptr<SeekableArchive> seekable{};
  std::unique_ptr<ByteSource>
      stream{};            // the plain bytes of a tar; read ahead by a thread of its own
  std::uint64_t size = 0;  // bytes of the file behind `stream`; 0: not known
};

// Opens a file, a directory, or standard input ("-"), and tells by content what it is.  Errors:
// kInvalid "not a docker or OCI archive: ..." and "is empty".  `on_read` is told how many bytes
// were read from a stream, from the reading thread.
Result<OpenedArchive> open_archive(std::string const& path, Common& common,
                                   std::function<void(std::uint64_t)> on_read);

}  // namespace lcfs::importer
