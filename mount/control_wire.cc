// SPDX-License-Identifier: Apache-2.0
#include "mount/control_wire.h"

#include <fmt/format.h>

#include <cstring>

namespace lcfs::mount {
namespace {

constexpr std::uint32_t kUmaskBits = 0777;
constexpr std::size_t kMaxText = 4096;  // of an answer

Error malformed(std::string what) {
  return Error::invalid(fmt::format("control message: {}", what));
}

class Writer {
 public:
  Writer() : bytes_(kControlMagic) { u32(kControlVersion), u32(0); }
  void u32(std::uint32_t value) {
    for (unsigned shift = 0; shift < 32; shift += 8)
      bytes_.push_back(static_cast<char>(value >> shift & 0xff));
  }
  void string(std::string_view text) {
    u32(static_cast<std::uint32_t>(text.size()));
    bytes_ += text;
  }
  [[nodiscard]] std::size_t payload() const { return bytes_.size() - kControlHeader; }
  std::string finish() {
    auto const length = static_cast<std::uint32_t>(payload());
    for (unsigned i = 0; i < 4; ++i) bytes_[12 + i] = static_cast<char>(length >> 8 * i & 0xff);
    return std::move(bytes_);
  }

 private:
  std::string bytes_;
};

// Reads the fields of a payload.  A missing byte is an error, and nothing is allocated before its
// bytes are known to be there.
class Reader {
 public:
  explicit Reader(std::span<std::byte const> bytes) : bytes_(bytes) {}

  Result<std::uint32_t> u32(char const* what) {
    if (bytes_.size() < 4) return malformed(fmt::format("cut short in {}", what));
    std::uint32_t value = 0;
    for (unsigned i = 0; i < 4; ++i) value |= std::to_integer<std::uint32_t>(bytes_[i]) << 8 * i;
    bytes_ = bytes_.subspan(4);
    return value;
  }
  Result<std::uint32_t> count(char const* what, std::uint32_t least, std::size_t most) {
    LCFS_TRY_ASSIGN(auto const value, u32(what));
    if (value < least || value > most) return malformed(fmt::format("{} is {}", what, value));
    return value;
  }
  Result<std::string> string(char const* what) {
    LCFS_TRY_ASSIGN(auto const length, u32(what));
    if (length > bytes_.size()) return malformed(fmt::format("cut short in {}", what));
    std::string text(reinterpret_cast<char const*>(bytes_.data()), length);
    bytes_ = bytes_.subspan(length);
    if (text.find('\0') != std::string::npos)
      return malformed(fmt::format("{} holds a zero byte", what));
    return text;
  }
  Status end() const {
    if (bytes_.empty()) return Ok{};
    return malformed(fmt::format("{} bytes left over", bytes_.size()));
  }

 private:
  std::span<std::byte const> bytes_;
};

}  // namespace

Result<std::string> encode_command(ControlCommand const& command) {
  if (command.args.empty() || command.args.size() > kControlArgs ||
      command.variables.size() > kControlVariables)
    return malformed("the command line has too many arguments to be sent");
  Writer out;
  out.u32(command.umask & kUmaskBits);
  out.u32(static_cast<std::uint32_t>(command.args.size()));
  out.u32(static_cast<std::uint32_t>(command.variables.size()));
  for (auto const& arg : command.args) out.string(arg);
  for (auto const& [name, value] : command.variables) out.string(name), out.string(value);
  if (out.payload() > kControlPayload)
    return malformed(
        fmt::format("the command line is too long to be sent: {} bytes; the limit is {}",
                    out.payload(), kControlPayload));
  return out.finish();
}

std::string encode_answer(ControlAnswer const& answer) {
  Writer out;
  out.u32(static_cast<std::uint32_t>(answer.exit_code));
  out.u32(static_cast<std::uint32_t>(answer.refusal));
  out.string(std::string_view{answer.text}.substr(0, kMaxText));
  return out.finish();
}

Result<ControlHead> decode_head(std::span<std::byte const, kControlHeader> bytes) {
  if (std::memcmp(bytes.data(), kControlMagic.data(), kControlMagic.size()) != 0)
    return malformed("wrong magic");
  Reader in(bytes.subspan(kControlMagic.size()));
  ControlHead head;
  LCFS_TRY_ASSIGN(head.version, in.u32("version"));
  LCFS_TRY_ASSIGN(head.length, in.u32("length"));
  if (head.version != kControlVersion)
    return Error::unsupported(fmt::format("control message of version {}; this lcfs supports {}",
                                          head.version, kControlVersion));
  if (head.length > kControlPayload)
    return malformed(fmt::format("length is {}; the limit is {}", head.length, kControlPayload));
  return head;
}

Result<ControlCommand> decode_command(std::span<std::byte const> payload) {
  Reader in(payload);
  ControlCommand command;
  LCFS_TRY_ASSIGN(command.umask, in.count("umask", 0, kUmaskBits));
  LCFS_TRY_ASSIGN(auto const args, in.count("argc", 1, kControlArgs));
  LCFS_TRY_ASSIGN(auto const variables, in.count("envc", 0, kControlVariables));
  for (std::uint32_t i = 0; i < args; ++i) {
    LCFS_TRY_ASSIGN(auto arg, in.string("an argument"));
    command.args.push_back(std::move(arg));
  }
  for (std::uint32_t i = 0; i < variables; ++i) {
    LCFS_TRY_ASSIGN(auto name, in.string("a variable"));
    LCFS_TRY_ASSIGN(auto value, in.string("a variable"));
    command.variables.emplace_back(std::move(name), std::move(value));
  }
  LCFS_TRY(in.end());
  return command;
}

Result<ControlAnswer> decode_answer(std::span<std::byte const> payload) {
  Reader in(payload);
  ControlAnswer answer;
  LCFS_TRY_ASSIGN(auto const exit_code, in.u32("exit code"));
  answer.exit_code = static_cast<std::int32_t>(exit_code);
  LCFS_TRY_ASSIGN(auto const refusal, in.u32("refusal"));
  answer.refusal = static_cast<ControlRefusal>(refusal);  // an unknown value is a refusal too
  LCFS_TRY_ASSIGN(answer.text, in.string("text"));
  LCFS_TRY(in.end());
  return answer;
}

}  // namespace lcfs::mount
