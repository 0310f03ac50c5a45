// SPDX-License-Identifier: Apache-2.0
// An output stream on a file descriptor, for commands that a server runs with their client's
// descriptors: a broken pipe is an error of the stream, and a reader that doesn't read holds
// nothing up once the command shall stop.
#pragma once

#include <array>
#include <atomic>
#include <ostream>
#include <streambuf>

namespace lcfs::cli {

class FdBuffer final : public std::streambuf {
 public:
  FdBuffer(int fd, std::atomic<bool> const* stop);
  [[nodiscard]] int error() const { return error_; }

 protected:
  int_type overflow(int_type c) override;
  int sync() override;
  std::streamsize xsputn(char const* bytes, std::streamsize count) override;

 private:
  bool write_all(char const* bytes, std::size_t count);
  bool wait();

  int const fd_;
  std::atomic<bool> const* const stop_;
  bool regular_ = false;  // a file: never waits for a reader
  int error_ = 0;
  std::array<char, 64u << 10> buffer_{};
};

class FdStream final : public std::ostream {
 public:
  // `fd` stays the caller's.  `stop` may be null.  Flush before the end: errors of the destructor
  // are not seen.
  FdStream(int fd, std::atomic<bool> const* stop);
  ~FdStream() override { flush(); }
  FdStream(FdStream const&) = delete;
  FdStream& operator=(FdStream const&) = delete;
  [[nodiscard]] int error() const {
    return buffer_.error();
  }  // errno of the first write that failed; 0: none

 private:
  FdBuffer buffer_;
};

}  // namespace lcfs::cli
