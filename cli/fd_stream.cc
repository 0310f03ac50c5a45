// SPDX-License-Identifier: Apache-2.0
#include "cli/fd_stream.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace lcfs::cli {
namespace {

constexpr int kPollMs = 100;  // delay until a stop is noticed

}  // namespace

FdBuffer::FdBuffer(int fd, std::atomic<bool> const* stop) : fd_(fd), stop_(stop) {
  struct stat st {};
  regular_ = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
  setp(buffer_.data(), buffer_.data() + buffer_.size());
}

FdBuffer::int_type FdBuffer::overflow(int_type c) {
  if (sync() != 0) return traits_type::eof();
  if (!traits_type::eq_int_type(c, traits_type::eof())) {
    *pptr() = traits_type::to_char_type(c);
    pbump(1);
  }
  return traits_type::not_eof(c);
}

int FdBuffer::sync() {
  bool const done = write_all(pbase(), static_cast<std::size_t>(pptr() - pbase()));
  setp(buffer_.data(), buffer_.data() + buffer_.size());
  return done ? 0 : -1;
}

std::streamsize FdBuffer::xsputn(char const* bytes, std::streamsize count) {
  if (count <= epptr() - pptr()) {
    std::copy_n(bytes, count, pptr());
    pbump(static_cast<int>(count));
    return count;
  }
  return sync() == 0 && write_all(bytes, static_cast<std::size_t>(count)) ? count : 0;
}

bool FdBuffer::write_all(char const* bytes, std::size_t count) {
  while (count != 0) {
    if (error_ != 0 || !wait()) return false;
    // POLLOUT guarantees room for PIPE_BUF bytes in a pipe; a larger write could block.  The
    // descriptor must not become non-blocking, because the client and its other users share it.
    std::size_t const part = regular_ ? count : std::min<std::size_t>(count, PIPE_BUF);
    ssize_t const n = ::write(fd_, bytes, part);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) {
      error_ = errno;
      return false;
    }
    bytes += n;
    count -= static_cast<std::size_t>(n);
  }
  return true;
}

// Waits until there is room.  Once the command must stop, fails if there is no room at once.
bool FdBuffer::wait() {
  if (regular_) return true;
  for (;;) {
    bool const stopping = stop_ != nullptr && *stop_;
    pollfd wanted{fd_, POLLOUT, 0};
    int const ready = ::poll(&wanted, 1, stopping ? 0 : kPollMs);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) error_ = errno;
    if (stopping && ready == 0) error_ = EINTR;
    if (error_ != 0) return false;
  }
}

FdStream::FdStream(int fd, std::atomic<bool> const* stop)
    : std::ostream(nullptr), buffer_(fd, stop) {
  rdbuf(&buffer_);
}

}  // namespace lcfs::cli
