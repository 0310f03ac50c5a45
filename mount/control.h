// SPDX-License-Identifier: Apache-2.0
// The control socket of a mounted store: how every other subcommand works while a server has the
// store's lock.
//
// The client sends its whole command line, the part of its environment that counts, its umask, and
// its descriptors (standard input, output, error, working directory).  The server runs the command
// on the store it has open, with the client's descriptors, and answers with the exit code.  So
// there is one message, not one for each verb.
//
// Bytes, all little-endian:
//   header   8 bytes "LCFSctl1", u32 version, u32 length of the payload (<= 256 KiB)
//   request  u32 umask, u32 argc (1..4096), u32 envc (<= 64), then argc strings, then envc times
//   name and value;
//            a string is a u32 length and that many bytes, none of them 0.  Nothing behind it.
//            With its first byte exactly 4 descriptors come by SCM_RIGHTS: 0, 1, 2 and the working
//            directory.
//   reply    i32 exit code, u32 why (ControlRefusal; 0: the command ran), a string for people
// One request, one reply, then the server closes.  A client that shuts down its sending side, or
// goes away, asks the command to stop.  The server takes requests of root and of its own user only.
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

#include "device/checks.h"
#include "format/result.h"

namespace lcfs::mount {

inline constexpr std::string_view kControlMagic{"LCFSctl1"};
inline constexpr std::uint32_t kControlVersion = 1;
inline constexpr std::size_t kControlHeader = 16;
inline constexpr std::size_t kControlPayload = 256u << 10;  // most bytes behind a header
inline constexpr std::size_t kControlArgs = 4096;
inline constexpr std::size_t kControlVariables = 64;
inline constexpr std::size_t kControlDescriptors = 4;

enum class ControlRefusal : std::uint32_t {
  kNone = 0,        // the command ran
  kMalformed = 1,   // no request
  kVersion = 2,     // the text says which versions are known
  kNotAllowed = 3,  // neither root nor the server's user
  kTooMany = 4,     // as many connections as there may be
  kStopping = 5,    // the store is being unmounted
};

using Variables = std::vector<std::pair<std::string, std::string>>;

// What is to be run.
struct ControlCommand {
  std::vector<std::string> args{};  // args[0]: the name the program was called by
  Variables variables{};
  mode_t umask = 022;
};

// A command that a server has received.  It runs on a thread of its own, in the client's working
// directory and with its umask.
struct ControlRequest {
  ControlCommand command{};
  Fd in{}, out{}, err{}, cwd{};
  pid_t pid = 0;  // of the client
  uid_t uid = 0;
  std::atomic<bool> stop{false};  // the client has gone, or the server ends

  [[nodiscard]] std::optional<std::string> variable(std::string_view name) const;
};

// What tells a store from all others, whatever its path: the file, or the device of a block device
// node.
struct StoreIdentity {
  bool block = false;
  std::uint64_t device = 0;  // of a block device: itself
  std::uint64_t inode = 0;   // of a file
  uid_t owner = 0;           // of the file or node; does not count in comparisons
  friend bool operator==(StoreIdentity const& a, StoreIdentity const& b) {
    return a.block == b.block && a.device == b.device && a.inode == b.inode;
  }
};
Result<StoreIdentity> store_identity(std::string const& path);

using Environment =
    std::function<std::optional<std::string>(char const* name)>;  // empty: nothing is set

// Where the server of a store makes its socket: $LCFS_RUNTIME_DIR, else /run/lcfs for root, else
// $XDG_RUNTIME_DIR/lcfs, else /tmp/lcfs-UID.
std::string control_socket_path(StoreIdentity const& store, Environment const& env);
// Where a client looks for it: there; where the store's owner would have it; where root would.
std::vector<std::string> control_socket_paths(StoreIdentity const& store, Environment const& env);

struct ControlServerOptions {
  std::string socket{};       // its directory is made (0700; /run/lcfs 0755) if it isn't there
  unsigned connections = 16;  // at once; more are refused
  std::chrono::milliseconds patience{10'000};  // for the whole of a request to come
  std::chrono::milliseconds grace{250};        // the same, when another client wants the place
  std::function<bool(uid_t)> allow{};          // tests; empty: root and our own effective user
};

// Threads: any function from any thread; stop() once.
class ControlServer {
 public:
  using Runner = std::function<int(ControlRequest&)>;  // returns the exit code; called by several
                                                       // threads at once

  // Listens.  The store's lock must be held: that makes a socket that is left over ours to replace.
  // Call after the last fork.  Errors: kBusy if someone else listens there; kInvalid if the
  // directory isn't ours alone.
  static Result<std::unique_ptr<ControlServer>> start(ControlServerOptions options, Runner run);
  ~ControlServer();  // stop()
  ControlServer(ControlServer const&) = delete;
  ControlServer& operator=(ControlServer const&) = delete;

  // Removes the socket, asks running commands to stop and waits for them.  Clients that come
  // meanwhile are told so.
  void stop();

  struct Counts {
    std::uint64_t commands = 0;  // that ran
    std::uint64_t refused = 0;   // for any of ControlRefusal
    std::uint64_t dropped = 0;   // clients that sent nothing whole in time, or went away before
    std::uint64_t running = 0;   // connections now
  };
  [[nodiscard]] Counts counts() const;
  [[nodiscard]] std::string const& socket() const;

 private:
  struct Impl;
  explicit ControlServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// What a client hands over; they stay the caller's.  One that isn't open is replaced by /dev/null.
struct ControlDescriptors {
  int in = 0, out = 1, err = 2;
};

// Sends the command to the first of `sockets` where a server listens, with the working directory of
// the caller, and waits for its end: the exit code, or nothing if no server listens.  `owner`: of
// the store; a server must be root's, ours or, if we are root, theirs.  `stop`: turns true (and a
// signal ends poll(2)) when the command shall stop; may be null. Errors: kBusy (refused, too many),
// kInvalid (what we sent), kIo (the server went away).
Result<std::optional<int>> control_call(std::vector<std::string> const& sockets, uid_t owner,
                                        ControlCommand const& command,
                                        ControlDescriptors const& descriptors,
                                        std::atomic<bool> const* stop);

}  // namespace lcfs::mount
