// SPDX-License-Identifier: Apache-2.0
// What both ends of the control socket do with it.
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

#include "device/checks.h"
#include "format/result.h"

namespace lcfs::mount {

using ControlClock = std::chrono::steady_clock;

// A path as bind(2) and connect(2) want it.  One that is too long for that is named through its
// directory's descriptor, which must live as long as the address is used.
struct SocketAddress {
  Fd directory{};
  sockaddr_un address{};
  [[nodiscard]] sockaddr const* get() const { return reinterpret_cast<sockaddr const*>(&address); }
};
Result<SocketAddress> socket_address(std::string const& path);

// The other end's process.
std::optional<ucred> peer_of(int socket);

// All of `bytes`, with `descriptors` on the first of them.  Never SIGPIPE.  False: the other end is
// gone, or it is too slow.
bool send_all(int socket, std::string_view bytes, std::span<int const> descriptors,
              ControlClock::time_point deadline);

enum class Received : std::uint8_t { kAll, kGone, kTooLate };
// Fills `into`; descriptors that come with it are appended to `descriptors`, close-on-exec.  More
// than a handful are closed at once, and `too_many` says so.
struct Incoming {
  std::vector<Fd> descriptors{};
  bool too_many = false;
};
Received receive_all(int socket, std::span<std::byte> into, Incoming& incoming,
                     ControlClock::time_point deadline);

}  // namespace lcfs::mount
