// SPDX-License-Identifier: Apache-2.0
// Socket operations that both ends of the control socket use.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "device/checks.h"

namespace lcfs::mount {

using ControlClock = std::chrono::steady_clock;

// A path as an address for bind(2) and connect(2).  A path that is too long is addressed through
// its directory's descriptor, which must stay open while the address is used.
struct SocketAddress {
  Fd directory{};
  sockaddr_un address{};
  [[nodiscard]] sockaddr const* get() const { return reinterpret_cast<sockaddr const*>(&address); }
};
Result<SocketAddress> socket_address(std::string const& path);

// The credentials of the process at the other end.
std::optional<ucred> peer_of(int socket);

// Sends all of `bytes`, with `descriptors` on the first byte.  Never raises SIGPIPE.  False: the
// other end has closed the socket, or the deadline has passed.
bool send_all(int socket, std::string_view bytes, std::span<int const> descriptors,
              ControlClock::time_point deadline);

enum class Received : std::uint8_t { kAll, kGone, kTooLate };
// Fills `into`.  Appends received descriptors, which are close-on-exec, to `descriptors`.  More
// than 8 with one message are closed, and `too_many` is set.
struct Incoming {
  std::vector<Fd> descriptors{};
  bool too_many = false;
};
Received receive_all(int socket, std::span<std::byte> into, Incoming& incoming,
                     ControlClock::time_point deadline);

}  // namespace lcfs::mount
