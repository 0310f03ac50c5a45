// SPDX-License-Identifier: Apache-2.0
#include "mount/options.h"

#include <fmt/format.h>
#include <sys/mount.h>

#include <array>
#include <charconv>

#include "base/size_text.h"

namespace lcfs::mount {
namespace {

Error invalid(std::string message) { return Error::invalid(std::move(message)); }

// The two options for one flag of mount(2): one sets it, the other clears it.
struct VfsWord {
  char const* sets;
  char const* clears;
  unsigned long flag;
};
constexpr std::array kVfsWords{
    VfsWord{"ro", "rw", MS_RDONLY},           VfsWord{"nosuid", "suid", MS_NOSUID},
    VfsWord{"nodev", "dev", MS_NODEV},        VfsWord{"noexec", "exec", MS_NOEXEC},
    VfsWord{"sync", "async", MS_SYNCHRONOUS}, VfsWord{"dirsync", "nodirsync", MS_DIRSYNC},
    VfsWord{"noatime", "atime", MS_NOATIME},  VfsWord{"nodiratime", "diratime", MS_NODIRATIME},
};

bool vfs_word(std::string_view word, VfsFlags& flags) {
  for (auto const& known : kVfsWords) {
    if (word == known.sets) {
      flags.set |= known.flag;
      flags.cleared &= ~known.flag;
      return true;
    }
    if (word == known.clears) {
      flags.cleared |= known.flag;
      flags.set &= ~known.flag;
      return true;
    }
  }
  return false;
}

// The VFS sees only noatime: the server itself implements the other two.
bool atime_word(std::string_view word, MountOptions& options) {
  if (word == "relatime")
    options.atime = Atime::kRelative;
  else if (word == "strictatime" || word == "atime")
    options.atime = Atime::kAlways;
  else if (word == "noatime" || word == "norelatime" || word == "nostrictatime")
    options.atime = Atime::kNever;
  else
    return false;
  vfs_word(word == "noatime" ? "noatime" : "atime", options.vfs);
  return true;
}

// Options that mount(8) and fstab(5) reserve, and those that FUSE shows of an existing mount, which
// a remount passes back.
bool ignored(std::string_view key) {
  if (key.starts_with("x-") || key.starts_with("X-")) return true;
  for (char const* word : {"defaults",
                           "_netdev",
                           "nofail",
                           "auto",
                           "noauto",
                           "user",
                           "users",
                           "nouser",
                           "nousers",
                           "owner",
                           "noowner",
                           "group",
                           "nogroup",
                           "comment",
                           "loud",
                           "silent",
                           "lazytime",
                           "nolazytime",
                           "default_permissions",
                           "user_id",
                           "group_id",
                           "max_read",
                           "rootmode",
                           "blksize",
                           "fd",
                           "subtype",
                           "fsname",
                           "uhelper",
                           "helper"})
    if (key == word) return true;
  return false;
}

struct Item {
  std::string_view key{}, value{};
  bool has_value = false;
};

Result<std::uint64_t> size_of(Item const& item) {
  auto size = parse_size(item.value);
  if (!size) return invalid(fmt::format("mount option {}: {}", item.key, size.error().message));
  return size;
}

Result<unsigned> number_of(Item const& item, unsigned most) {
  unsigned number = 0;
  auto const* const end = item.value.data() + item.value.size();
  auto const [at, error] = std::from_chars(item.value.data(), end, number);
  if (error != std::errc{} || at != end || number < 1 || number > most)
    return invalid(fmt::format("mount option {}: \"{}\" is not a number from 1 to {}", item.key,
                               item.value, most));
  return number;
}

// A restore point is always read-only.
Status set_at(Item const& item, MountOptions& options) {
  auto const* const end = item.value.data() + item.value.size();
  auto const [at, error] = std::from_chars(item.value.data(), end, options.at);
  if (error != std::errc{} || at != end || options.at == 0)
    return invalid(fmt::format("mount option at: \"{}\" is not the generation of a restore point",
                               item.value));
  options.vfs.set |= MS_RDONLY;
  return Ok{};
}

Status set_transport(Item const& item, MountOptions& options) {
  if (item.value == "auto")
    options.transport = TransportKind::kAuto;
  else if (item.value == "dev")
    options.transport = TransportKind::kDev;
  else if (item.value == "uring")
    options.transport = TransportKind::kUring;
  else
    return invalid(
        fmt::format("mount option transport: \"{}\" is not auto, dev or uring", item.value));
  return Ok{};
}

Status set_control(Item const& item, MountOptions& options) {
  if (item.value != "yes" && item.value != "no")
    return invalid(fmt::format("mount option control: \"{}\" is neither yes nor no", item.value));
  options.control = item.value == "yes";
  return Ok{};
}

// Sets an option that takes a value.  False: no such option takes one.
Result<bool> set_value(Item const& item, MountOptions& options) {
  if (item.key == "layer") {
    if (item.value.empty()) return invalid("mount option layer: needs a name");
    options.layer = item.value;
  } else if (item.key == "at") {
    LCFS_TRY(set_at(item, options));
  } else if (item.key == "transport") {
    LCFS_TRY(set_transport(item, options));
  } else if (item.key == "control") {
    LCFS_TRY(set_control(item, options));
  } else if (item.key == "threads") {
    LCFS_TRY_ASSIGN(options.threads, number_of(item, 256));
  } else if (item.key == "checkpoint") {
    LCFS_TRY_ASSIGN(options.checkpoint, number_of(item, 3600));
  } else if (item.key == "node_cache") {
    LCFS_TRY_ASSIGN(options.node_cache, size_of(item));
  } else if (item.key == "dirty") {
    LCFS_TRY_ASSIGN(options.dirty_data, size_of(item));
  } else {
    return false;
  }
  return true;
}

bool set_flag(std::string_view word, MountOptions& options) {
  if (word == "clone_fd" || word == "no_clone_fd")
    options.clone_fd = word == "clone_fd";
  else if (word == "writeback" || word == "no_writeback")
    options.writeback = word == "writeback";
  else if (word == "no_pseudo")
    options.pseudo = false;
  else if (word == "no_verify")
    options.verify_data = false;
  else if (word == "no_killpriv_v2")
    options.killpriv_v2 = false;
  else if (word == "allow_other")
    options.allow_other = true;
  else if (word == "remount")
    options.remount = true;
  else
    return atime_word(word, options) || vfs_word(word, options.vfs);
  return true;
}

Status parse_item(std::string_view text, bool sloppy, MountOptions& options) {
  auto const equals = text.find('=');
  Item const item{text.substr(0, equals),
                  equals == std::string_view::npos ? "" : text.substr(equals + 1),
                  equals != std::string_view::npos};
  if (ignored(item.key)) return Ok{};
  LCFS_TRY_ASSIGN(bool const known_value, set_value(item, options));
  if (known_value) return Ok{};
  if (set_flag(item.key, options)) {
    if (!item.has_value) return Ok{};
    return invalid(fmt::format("mount option {}: takes no value", item.key));
  }
  if (sloppy) return Ok{};
  return invalid(fmt::format("unknown mount option \"{}\"", text));
}

}  // namespace

bool MountOptions::read_only() const { return vfs.has(MS_RDONLY); }

Status parse_options(std::string_view list, bool sloppy, MountOptions& options) {
  MountOptions parsed = options;
  while (!list.empty()) {
    auto const comma = list.find(',');
    auto const item = list.substr(0, comma);
    list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
    if (!item.empty()) LCFS_TRY(parse_item(item, sloppy, parsed));
  }
  options = std::move(parsed);
  return Ok{};
}

std::string own_text(MountOptions const& options) {
  std::string text;
  auto const add = [&](std::string const& word) { text += (text.empty() ? "" : ",") + word; };
  if (!options.layer.empty()) add("layer=" + options.layer);
  if (options.at != 0) add(fmt::format("at={}", options.at));
  if (options.transport != TransportKind::kAuto)
    add(options.transport == TransportKind::kDev ? "transport=dev" : "transport=uring");
  if (options.threads != 0) add(fmt::format("threads={}", options.threads));
  if (options.clone_fd) add(*options.clone_fd ? "clone_fd" : "no_clone_fd");
  if (options.writeback) add(*options.writeback ? "writeback" : "no_writeback");
  if (options.node_cache) add(fmt::format("node_cache={}", *options.node_cache));
  if (options.dirty_data) add(fmt::format("dirty={}", *options.dirty_data));
  if (options.checkpoint) add(fmt::format("checkpoint={}", *options.checkpoint));
  if (!options.pseudo) add("no_pseudo");
  if (!options.verify_data) add("no_verify");
  if (!options.killpriv_v2) add("no_killpriv_v2");
  if (!options.control) add("control=no");
  if (options.atime != Atime::kNever)
    add(options.atime == Atime::kRelative ? "relatime" : "strictatime");
  return text;
}

std::string fixed_change(MountOptions const& asked, MountOptions const& had) {
  auto const other = [](auto const& wanted, auto const& is) { return wanted && wanted != is; };
  auto const flag = [](std::optional<bool> wanted, std::optional<bool> is) {
    return wanted && *wanted != is.value_or(false);
  };
  if (!asked.layer.empty() && asked.layer != had.layer) return "layer";
  if (asked.at != 0 && asked.at != had.at) return "at";
  if (asked.transport != TransportKind::kAuto && asked.transport != had.transport)
    return "transport";
  if (asked.threads != 0 && asked.threads != had.threads) return "threads";
  if (flag(asked.clone_fd, had.clone_fd)) return "clone_fd";
  if (flag(asked.writeback, had.writeback)) return "writeback";
  if (other(asked.node_cache, had.node_cache)) return "node_cache";
  if (other(asked.dirty_data, had.dirty_data)) return "dirty";
  if (other(asked.checkpoint, had.checkpoint)) return "checkpoint";
  if (!asked.pseudo && had.pseudo) return "no_pseudo";
  if (!asked.verify_data && had.verify_data) return "no_verify";
  if (!asked.killpriv_v2 && had.killpriv_v2) return "no_killpriv_v2";
  if (!asked.control && had.control) return "control";
  // mount(8) passes back the options that the kernel shows of every mount.
  if (asked.all_flags || asked.atime == had.atime) return {};
  if (asked.atime != Atime::kNever)
    return asked.atime == Atime::kRelative ? "relatime" : "strictatime";
  if (asked.vfs.has(MS_NOATIME)) return "noatime";
  return {};
}

std::string vfs_text(MountOptions const& options) {
  std::string text = options.read_only() ? "ro" : "rw";
  text += options.vfs.has(MS_NOSUID) ? ",nosuid" : ",suid";
  text += options.vfs.has(MS_NODEV) ? ",nodev" : ",dev";
  // libfuse 3.14 does not know nodiratime, and nothing updates directories' access times anyway.
  constexpr unsigned long kAlwaysNamed = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NODIRATIME;
  for (auto const& word : kVfsWords)
    if ((word.flag & kAlwaysNamed) == 0 && options.vfs.has(word.flag))
      text += fmt::format(",{}", word.sets);
  return text;
}

unsigned long vfs_flags_of(std::string_view shown) {
  VfsFlags flags;
  while (!shown.empty()) {
    auto const comma = shown.find(',');
    auto const word = shown.substr(0, comma);
    shown.remove_prefix(comma == std::string_view::npos ? shown.size() : comma + 1);
    if (word == "relatime")  // what mountinfo shows if neither noatime nor strictatime was given
      flags.set |= MS_RELATIME;
    else
      vfs_word(word, flags);
  }
  return flags.set;
}

}  // namespace lcfs::mount
