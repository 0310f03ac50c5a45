// SPDX-License-Identifier: Apache-2.0
// What an export is written to: a tar file, a tar down a pipe, or a directory; a set of named
// members either way.
//
// A file or directory has its name only when it is whole and durable: until finish() nothing is
// seen of it, and without it nothing stays, whatever ends the process.  (A directory under
// construction has a name that tells so, and stays only if we are killed.)
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "exporter/tar_sink.h"

namespace lcfs::exporter {

class Archive {
 public:
  virtual ~Archive() = default;

  // A member whose size, and mostly its name, is known when it is written.  `make` writes it and
  // returns its name; one of that name that is there already stays, and this one goes. known: its
  // name and size, where they can be told before: then nothing must be kept back on its way into a
  // pipe.
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

// A tar at `path`, in place of what stands there.  mtime: of all members.
Result<std::unique_ptr<Archive>> make_tar_file(std::string const& path, std::int64_t mtime);
// A tar into `out`; members that are not known before wait in a file without a name in $TMPDIR
// (`spool`), one at a time.
std::unique_ptr<Archive> make_tar_stream(ByteSink& out, std::string spool, std::int64_t mtime);
// A directory at `path`, which is not there yet or is empty.
Result<std::unique_ptr<Archive>> make_directory(std::string const& path);

}  // namespace lcfs::exporter
