// SPDX-License-Identifier: Apache-2.0
// An output stream on a file descriptor, for commands that a server runs with their client's
// descriptors.  A broken pipe is an error of the stream, and a reader that does not read cannot
// keep a command from stopping.  One thread.
#pragma once

#include <array>
#include <atomic>
#include <ostream>
#include <streambuf>

namespace lcfs::cli {

class FdBuffer final : public std::streambuf {
 public:
  FdBuffer(int fd, std::atomic<bool> const* stop);
  [[nodiscard]] int error() const { return error_; }  // as FdStream::error()

 protected:
  int_type overflow(int_type c) override;
  int sync() override;
  std::streamsize xsputn(char const* bytes, std::streamsize count) override;

 private:
  bool write_all(char const* bytes, std::size_t count);
  bool wait();

  int const fd_;
  std::atomic<bool> const* const stop_;
  bool regular_ = false;  // a regular file: writes never wait for a reader
  int error_ = 0;
  std::array<char, 64u << 10> buffer_{};
};

class FdStream final : public std::ostream {
 public:
  // `fd` stays the caller's and must outlive the stream.  `stop` can be null.  Flush before the
  // stream is destroyed: nobody sees errors of the destructor.
  FdStream(int fd, std::atomic<bool> const* stop);
  ~FdStream() override { flush(); }
  FdStream(FdStream const&) = delete;
  FdStream& operator=(FdStream const&) = delete;
  [[nodiscard]] int error() const {
    return buffer_.error();
  }  // errno of the first failed write, or 0

 private:
  FdBuffer buffer_;
};

}  // namespace lcfs::cli
