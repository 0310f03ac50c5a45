// SPDX-License-Identifier: Apache-2.0
// The output of an export: a tar file, a tar to a pipe, or a directory; always a set of named
// members.
//
// A file or directory gets its name only when it is complete and durable: until finish() nothing is
// visible, and without finish() nothing remains.  (A directory under construction has a name that
// says so, and remains only if the process is killed.)
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "exporter/tar_sink.h"

namespace lcfs::exporter {

class ArchiveWriter {
 public:
  virtual ~ArchiveWriter() = default;

  // A member whose size, and mostly its name, is known when it is written.  `make` writes it and
  // returns its name; if a member of that name exists, it stays and the new one is dropped.  known:
  // its name and size, if known in advance: then a pipe needs no temporary file.
  struct Known {
    std::string name{};
    std::uint64_t size = 0;
  };
  virtual Status add(std::function<Result<std::string>(ByteSink& out)> const& make,
                     std::optional<Known> const& known) = 0;
  virtual Status add(std::string const& name, std::string_view bytes) = 0;
  virtual Status finish() = 0;
  [[nodiscard]] virtual std::uint64_t bytes() const = 0;  // written so far
};

// A tar at `path`, which replaces an existing file.  mtime: of all members.
Result<std::unique_ptr<ArchiveWriter>> make_tar_file(std::string const& path, std::int64_t mtime);
// A tar to `out`.  Members that are not known in advance wait in an unnamed file in $TMPDIR
// (`spool`), one at a time.
std::unique_ptr<ArchiveWriter> make_tar_stream(ByteSink& out, std::string spool,
                                               std::int64_t mtime);
// A directory at `path`, which must not exist or be empty.
Result<std::unique_ptr<ArchiveWriter>> make_directory(std::string const& path);

}  // namespace lcfs::exporter
