// SPDX-License-Identifier: Apache-2.0
// The control socket of a mounted store, through which all other commands work while the mount's
// server holds the store's lock.
//
// The client sends its whole command line, the relevant part of its environment, its umask, and its
// descriptors (standard input, output, error, working directory).  The server runs the command on
// the store it has open, with the client's descriptors, and answers with the exit code.  One
// message therefore serves all commands.
//
// Bytes, all little-endian:
//   header   8 bytes "LCFSctl1", u32 version, u32 length of the payload (<= 256 KiB)
//   request  u32 umask, u32 argc (1..4096), u32 envc (<= 64), then argc strings, then envc times
//            name and value; a string is a u32 length and that many bytes, none of them 0.  No
//            bytes follow.  With its first byte come exactly 4 descriptors (SCM_RIGHTS): 0, 1, 2
//            and the working directory.
//   reply    i32 exit code, u32 reason (ControlRefusal; 0: the command ran), a string for people
// One request, one reply, then the server closes the connection.  A client that shuts down its
// sending side, or disconnects, asks the command to stop.  The server accepts requests only from
// root and from its own user.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "device/checks.h"

namespace lcfs::mount {

inline constexpr std::string_view kControlMagic{"LCFSctl1"};
inline constexpr std::uint32_t kControlVersion = 1;
inline constexpr std::size_t kControlHeader = 16;
inline constexpr std::size_t kControlPayload = 256u << 10;  // maximum, in bytes
inline constexpr std::size_t kControlArgs = 4096;
inline constexpr std::size_t kControlVariables = 64;
inline constexpr std::size_t kControlDescriptors = 4;

enum class ControlRefusal : std::uint32_t {
  kNone = 0,        // the command ran
  kMalformed = 1,   // not a request
  kVersion = 2,     // unknown version; the text names the known ones
  kNotAllowed = 3,  // the client is neither root nor the server's user
  kTooMany = 4,     // the maximum number of connections is reached
  kStopping = 5,    // the store is being unmounted
};

using Variables = std::vector<std::pair<std::string, std::string>>;

// A command line to run.
struct ControlCommand {
  std::vector<std::string> args{};  // args[0]: the name by which the program was called
  Variables variables{};
  mode_t umask = 022;
};

// A command that a server has received.  It runs in its own thread, with the client's working
// directory and umask.
struct ControlRequest {
  ControlCommand command{};
  Fd in{}, out{}, err{}, cwd{};
  pid_t pid = 0;  // of the client
  uid_t uid = 0;
  std::atomic<bool> stop{false};  // the client has gone, or the server stops

  [[nodiscard]] std::optional<std::string> variable(std::string_view name) const;
};

// Identifies a store independently of its path: the file, or the device of a block device node.
struct StoreIdentity {
  bool block = false;
  std::uint64_t device = 0;  // of the file system with the file; or the block device itself
  std::uint64_t inode = 0;   // of the file
  uid_t owner = 0;           // of the file or node; not compared
  friend bool operator==(StoreIdentity const& a, StoreIdentity const& b) {
    return a.block == b.block && a.device == b.device && a.inode == b.inode;
  }
};
// kNotFound if the path does not exist; kIo.
Result<StoreIdentity> store_identity(std::string const& path);

// Empty: no variable is set.
using Environment = std::function<std::optional<std::string>(char const* name)>;

// The path of the server's socket, in $LCFS_RUNTIME_DIR if that is set; else in /run/lcfs for root,
// and in $XDG_RUNTIME_DIR/lcfs or /tmp/lcfs-UID for other users.
std::string control_socket_path(StoreIdentity const& store, Environment const& env);
// Where a client looks for it, in this order: there; where the store's owner's server would have
// it; where root's would.
std::vector<std::string> control_socket_paths(StoreIdentity const& store, Environment const& env);

struct ControlServerOptions {
  std::string socket{};       // its directory is created (0700; /run/lcfs 0755) if missing
  unsigned connections = 16;  // maximum at a time; more are refused
  std::chrono::milliseconds patience{10'000};  // time for a complete request to arrive
  std::chrono::milliseconds grace{250};        // the same, while another client waits for the place
  std::function<bool(uid_t)> allow{};          // for tests; empty: root and our own effective user
};

// Threads: any; call stop() once.
class ControlServer {
 public:
  using Runner = std::function<int(ControlRequest&)>;  // returns the exit code; called by several
                                                       // threads at a time

  // Starts to listen.  The caller must hold the store's lock, so that a socket that is left over
  // can be replaced.  Call it after the last fork.  Errors: kBusy if another server listens there;
  // kInvalid if the directory is unsafe; kIo.
  static Result<std::unique_ptr<ControlServer>> start(ControlServerOptions options, Runner run);
  ~ControlServer();  // stop()
  ControlServer(ControlServer const&) = delete;
  ControlServer& operator=(ControlServer const&) = delete;

  // Removes the socket, asks running commands to stop and waits for them.  Refuses clients that
  // connect meanwhile.
  void stop();

  struct Counts {
    std::uint64_t commands = 0;  // commands that ran
    std::uint64_t refused = 0;   // clients refused for any ControlRefusal
    std::uint64_t dropped = 0;   // clients that sent no complete request in time, or disconnected
    std::uint64_t running = 0;   // present connections
  };
  [[nodiscard]] Counts counts() const;
  [[nodiscard]] std::string const& socket() const;

 private:
  struct Impl;
  explicit ControlServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The descriptors that a client passes; they stay the caller's.  A closed one is replaced by
// /dev/null.
struct ControlDescriptors {
  int in = 0, out = 1, err = 2;
};

// Sends the command, with the caller's working directory, to the first of `sockets` where a server
// listens, and waits until it has run.  Returns the exit code; nullopt if no server listens.
// `owner`: the store's owner.  The server must belong to root, to this user or, if this user is
// root, to `owner`.  `stop`: becomes true when the command must stop (a signal also ends poll(2));
// can be null. Errors: kBusy (refused, too many commands), kInvalid (the command cannot be sent),
// kUnsupported (the server does not know the message), kIo (the server exited).
Result<std::optional<int>> control_call(std::vector<std::string> const& sockets, uid_t owner,
                                        ControlCommand const& command,
                                        ControlDescriptors const& descriptors,
                                        std::atomic<bool> const* stop);

}  // namespace lcfs::mount
