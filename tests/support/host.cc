// SPDX-License-Identifier: Apache-2.0
#include "tests/support/host.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "tests/support/vocabulary.h"

namespace lcfs::test {

namespace {

bool missing(std::string const& what) {
  if (getenv("CI") != nullptr) FAIL(what << " is missing, and this is CI");
  MESSAGE("skipped: " << what << " is missing");
  return false;
}

}  // namespace

Ran run(std::string const& shell_command) {
  Ran ran;
  FILE* const out = popen(("{ " + shell_command + "\n} 2>&1").c_str(), "re");
  if (out == nullptr) return ran;
  std::array<char, 4096> chunk{};
  while (std::size_t const n = fread(chunk.data(), 1, chunk.size(), out))
    ran.output.append(chunk.data(), n);
  ran.ok = pclose(out) == 0;
  while (!ran.output.empty() && ran.output.back() == '\n') ran.output.pop_back();
  return ran;
}

bool can_use_host() {
  static bool const can = geteuid() == 0 && std::filesystem::exists("/dev/loop-control") && [] {
    TempDir dir;
    if (mount("none", dir.path().c_str(), "tmpfs", 0, "size=1M") != 0) return false;
    umount2(dir.path().c_str(), 0);
    return true;
  }();
  return can || missing("root with mounts and loop devices");
}

bool have_tool(std::string const& name) { return run("command -v " + name).ok || missing(name); }

Mount::Mount(std::string const& type, std::string const& source, std::string const& options) {
  auto const made = run("mount -t " + type + " -o " + options + " " + source + " " + path());
  if (!made.ok) throw std::runtime_error("mount: " + made.output);
}

Mount::~Mount() {
  if (umount2(dir_.path().c_str(), 0) != 0) umount2(dir_.path().c_str(), MNT_DETACH);
}

LoopDevice::LoopDevice(std::string const& backing, std::uint64_t size, unsigned sector_size) {
  if (!std::filesystem::exists(backing)) {
    std::ofstream(backing).close();
    std::filesystem::resize_file(backing, size);
  }
  std::string const sectors =
      sector_size == 0 ? "" : "--sector-size " + std::to_string(sector_size) + " ";
  auto const made = run("losetup --find --show " + sectors + backing);
  if (!made.ok) throw std::runtime_error("losetup: " + made.output);
  path_ = made.output;
}

LoopDevice::~LoopDevice() { run("losetup --detach " + path_); }

void Child::Pipe::say(std::string const& line) {
  std::string const text = line + "\n";
  [[maybe_unused]] auto const n = ::write(fd_, text.data(), text.size());
}

Child::Child(std::function<void(Pipe&)> const& body) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
  fflush(nullptr);  // what is buffered must not come out twice
  pid_ = fork();
  if (pid_ == 0) {
    close(ends[0]);
    Pipe to_parent(ends[1]);
    body(to_parent);
    for (;;) pause();
  }
  close(ends[1]);
  from_child_ = ends[0];
  if (pid_ < 0) throw std::runtime_error("fork");
}

Child::~Child() {
  kill();
  close(from_child_);
}

std::string Child::hear() {
  std::string line;
  char c = 0;
  while (read(from_child_, &c, 1) == 1 && c != '\n') line += c;
  return line;
}

void Child::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

}  // namespace lcfs::test
