// SPDX-License-Identifier: Apache-2.0
#include "base/fd.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace lcfs {

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

Fd open_fd(std::string const& path, int flags, unsigned mode) {
  for (;;) {
    int const fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
    if (fd >= 0 || errno != EINTR) return Fd{fd};
  }
}

}  // namespace lcfs
