// SPDX-License-Identifier: Apache-2.0
// What device tests need of the host: commands, mounts, loop devices and other processes, all gone
// at the end of the scope.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>

#include "tests/support/support.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

struct Ran {
  bool ok = false;     // exit status 0
  std::string output;  // stdout and stderr together, without the last newline
};
Ran run(std::string const& shell_command);

// Whether mounts and loop devices can be made here.  Where they can't, the test says so and is
// skipped; in CI (the environment variable CI is set) that is a failure.
bool can_use_host();

// The same question for a program that may be missing.
bool have_tool(std::string const& name);

// A file system mounted on a directory of its own.
class Mount {
 public:
  Mount(std::string const& type, std::string const& source, std::string const& options);
  ~Mount();
  Mount(Mount const&) = delete;
  Mount& operator=(Mount const&) = delete;
  [[nodiscard]] std::string path() const { return dir_.path().string(); }
  [[nodiscard]] std::string file(std::string const& name) const { return dir_.file(name); }

 private:
  TempDir dir_;
};

// A loop device over a file; the file is made sparse if it isn't there.  sector_size 0: the host's
// choice.
class LoopDevice {
 public:
  LoopDevice(std::string const& backing, std::uint64_t size, unsigned sector_size = 0);
  ~LoopDevice();
  LoopDevice(LoopDevice const&) = delete;
  LoopDevice& operator=(LoopDevice const&) = delete;
  [[nodiscard]] std::string const& path() const { return path_; }

 private:
  std::string path_;
};

// Another process that runs `body` and then waits to be killed, which happens at the latest at the
// end of the scope.
class Child {
 public:
  class Pipe {
   public:
    explicit Pipe(int fd) : fd_(fd) {}
    void say(std::string const& line);

   private:
    int fd_;
  };
  explicit Child(std::function<void(Pipe&)> const& body);
  ~Child();
  Child(Child const&) = delete;
  Child& operator=(Child const&) = delete;
  [[nodiscard]] pid_t pid() const { return pid_; }
  std::string hear();  // the next line it says; empty if it is gone
  void kill();         // -9, and waits until it is gone

 private:
  pid_t pid_ = -1;
  int from_child_ = -1;
};

}  // namespace lcfs::test
