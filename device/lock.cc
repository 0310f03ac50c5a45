// SPDX-License-Identifier: Apache-2.0
#include "device/lock.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>
#include <system_error>

#include "device/checks.h"

namespace lcfs::device {

namespace {

namespace fs = std::filesystem;

bool alive(pid_t pid) { return ::kill(pid, 0) == 0 || errno != ESRCH; }

std::optional<pid_t> parse_pid(std::string_view text) {
  pid_t pid = 0;
  auto const [end, ec] = std::from_chars(text.data(), text.data() + text.size(), pid);
  if (ec != std::errc{} || end != text.data() + text.size() || pid <= 0) return std::nullopt;
  return pid;
}

// /proc/locks: "3: FLOCK  ADVISORY  WRITE 1234 fe:00:5359909 0 EOF"; a waiting one has "->" after
// the number.
std::optional<pid_t> from_lock_table(struct stat const& file) {
  auto const wanted =
      fmt::format("{:02x}:{:02x}:{}", major(file.st_dev), minor(file.st_dev), file.st_ino);
  std::ifstream table("/proc/locks");
  for (std::string line; std::getline(table, line);) {
    std::istringstream words(line);
    std::string number, type, advisory, mode, pid_text, inode;
    words >> number >> type >> advisory >> mode >> pid_text >> inode;
    // POSIX: the flock of a file on NFS.
    if ((type != "FLOCK" && type != "POSIX") || inode != wanted) continue;
    if (auto pid = parse_pid(pid_text); pid && alive(*pid)) return pid;
  }
  return std::nullopt;
}

// Whether descriptor `fd` of the process at /proc/PID has the file open and carries a flock.
bool holds_flock(fs::path const& process, std::string const& fd, struct stat const& file) {
  struct stat st {};
  if (::stat((process / "fd" / fd).c_str(), &st) != 0 || st.st_dev != file.st_dev ||
      st.st_ino != file.st_ino)
    return false;
  std::ifstream info(process / "fdinfo" / fd);
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("lock:") && line.find("FLOCK") != std::string::npos) return true;
  }
  return false;
}

// For the cases that /proc/locks cannot answer: the lock was inherited from a parent that is gone,
// or the file system shows another device number in stat(2) than the kernel's own (btrfs,
// overlayfs).
std::optional<pid_t> from_open_files(struct stat const& file) {
  std::error_code ec;
  for (fs::directory_iterator process("/proc", ec), end; !ec && process != end;
       process.increment(ec)) {
    auto const pid = parse_pid(process->path().filename().string());
    if (!pid) continue;
    std::error_code hidden;  // another user's process
    for (fs::directory_iterator fd(process->path() / "fd", hidden), last; !hidden && fd != last;
         fd.increment(hidden)) {
      if (holds_flock(process->path(), fd->path().filename().string(), file)) return pid;
    }
  }
  return std::nullopt;
}

}  // namespace

Status lock_store(int fd, std::string const& name, bool exclusive) {
  for (;;) {
    if (::flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0) return Ok{};
    if (errno == EINTR) continue;
    if (errno == EWOULDBLOCK) return in_use(name, lock_holder(fd));
    return Error::io("cannot lock", errno).in(name);
  }
}

std::optional<pid_t> lock_holder(int fd) {
  struct stat file {};
  if (::fstat(fd, &file) != 0) return std::nullopt;
  if (auto pid = from_lock_table(file)) return pid;
  return from_open_files(file);
}

Error in_use(std::string const& name, std::optional<pid_t> holder) {
  return Error::busy(holder ? fmt::format("in use by pid {}", *holder)
                            : "in use by another process")
      .in(name);
}

}  // namespace lcfs::device
