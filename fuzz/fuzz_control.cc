// SPDX-License-Identifier: Apache-2.0
// What a mount's server reads of its clients, its users and the kernel: control messages, mount
// options, the mount table.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "mount/control_wire.h"
#include "mount/mount_table.h"
#include "mount/options.h"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  using namespace lcfs::mount;
  std::span const bytes{reinterpret_cast<std::byte const*>(data), size};
  std::string_view const text{reinterpret_cast<char const*>(data), size};
  if (size >= kControlHeader) (void)decode_head(bytes.first<kControlHeader>()).ok();
  if (auto const command = decode_command(bytes)) {
    // What was read is written as the same bytes.
    auto const again = encode_command(*command);
    if (!again || again->substr(kControlHeader) != text) std::abort();
  }
  (void)decode_answer(bytes).ok();
  MountOptions options;
  (void)parse_options(text, size % 2 == 0, options).ok();
  (void)parse_mount_line(text);
  return 0;
}
