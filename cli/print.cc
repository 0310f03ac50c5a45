// SPDX-License-Identifier: Apache-2.0
#include "cli/print.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

namespace lcfs::cli {
namespace {

// Length of the UTF-8 sequence at the start of `s`, or 0 if there is none.
std::size_t utf8_length(std::string_view s) {
  auto const byte = [&s](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  unsigned const lead = byte(0);
  if (lead < 0x80) return 1;
  std::size_t const n = lead >= 0xc2 && lead <= 0xdf   ? 2
                        : lead >= 0xe0 && lead <= 0xef ? 3
                        : lead >= 0xf0 && lead <= 0xf4 ? 4
                                                       : 0;
  if (n == 0 || s.size() < n) return 0;
  for (std::size_t i = 1; i < n; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  unsigned const second = byte(1);
  if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
      (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f))
    return 0;
  return n;
}

// C1 controls, and characters that reverse or hide text on a terminal.
bool hides(std::string_view sequence) {
  return (sequence.size() == 2 && sequence[0] == '\xc2' &&
          static_cast<unsigned char>(sequence[1]) < 0xa0) ||
         (sequence.starts_with("\xe2\x80") && sequence.size() == 3 &&
          static_cast<unsigned char>(sequence[2]) >= 0x8b &&
          static_cast<unsigned char>(sequence[2]) <= 0xae) ||
         (sequence.starts_with("\xe2\x81") && sequence.size() == 3 &&
          static_cast<unsigned char>(sequence[2]) >= 0xa0) ||
         sequence == "\xef\xbb\xbf";
}

std::size_t width(std::string_view text) {  // of escaped text, in code points
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

std::string escape_but(std::string_view bytes, bool keep_backslash) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    std::size_t n = utf8_length(bytes);
    bool const plain =
        n == 1 ? bytes[0] >= 0x20 && bytes[0] != 0x7f && (keep_backslash || bytes[0] != '\\')
               : n > 1 && !hides(bytes.substr(0, n));
    n = std::max<std::size_t>(n, 1);
    if (plain) {
      out += bytes.substr(0, n);
    } else {
      for (char const c : bytes.substr(0, n))
        out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
    bytes.remove_prefix(n);
  }
  return out;
}

// The next step for an error, or "" if no step helps.
char const* advice(std::string_view what, Error const& error) {
  // These commands only read the store, so it is their output that has no space.
  if (what == "export" || what == "extract" || what == "diff") {
    bool const full = error.code == Errc::kNoSpace || error.sys == ENOSPC || error.sys == EDQUOT;
    if (full) return "free space there, or write the output elsewhere";
  }
  switch (error.code) {
    case Errc::kBusy:
      return error.message.starts_with("in use") ? "wait for it to end, or use another store"
                                                 : "";  // a layer is busy, not the store
    case Errc::kNoSpace:
      // A system call failed: the host is full, and neither fewer images nor a larger store help.
      if (error.sys != 0) return "free space on the host";
      if (error.to_errno() == EDQUOT) return "remove files, or raise the quota (lcfs layer quota)";
      return "remove images (lcfs image rm), or enlarge the store (lcfs grow)";
    case Errc::kCorrupt:
      if (what == "layer apply") return "";  // most likely the tar is damaged
      // A path "ARCHIVE: MEMBER" means that the archive is damaged, not the store.
      return what == "import" && error.path.find(": ") != std::string::npos
                 ? ""
                 : "run lcfs fsck -n --data";
    default: return "";
  }
}

}  // namespace

std::string escape(std::string_view bytes) { return escape_but(bytes, false); }

std::string escape_controls(std::string_view bytes) { return escape_but(bytes, true); }

bool is_utf8(std::string_view bytes) {
  while (!bytes.empty()) {
    std::size_t const n = utf8_length(bytes);
    if (n == 0) return false;
    bytes.remove_prefix(n);
  }
  return true;
}

int fail(Context const& context, std::string_view what, Error const& error) {
  if (context.forwarded) return context.exit;
  auto const offsets = what == "fsck" || what == "verify" ? Offsets::kShow : Offsets::kHide;
  auto line = fmt::format("lcfs {}: {}", what, escape_controls(error.text(offsets)));
  if (char const* then = advice(what, error); *then != '\0') line += fmt::format("; {}", then);
  context.io.err << line << '\n';
  return kFailed;
}

void warn(Context const& context, std::string_view what, std::string_view words) {
  context.io.err << fmt::format("lcfs {}: {}\n", what, escape_controls(words));
}

void for_each_name(std::vector<std::string> const& names, Context& context, std::string_view what,
                   std::function<Status(std::string const& name)> const& run) {
  for (auto const& name : names) {
    auto done = run(name);
    if (done) continue;
    if (done.error().path.empty()) done.error().path = name;
    context.exit = fail(context, what, done.error());
  }
}

Status warn_if_freezing(Store const& store, LayerId id, Context const& context,
                        std::string_view what) {
  LCFS_TRY_ASSIGN(auto const layer, store.layer_info(id));
  if (layer.state == LayerState::kOpen)
    warn(context, what,
         fmt::format("layer {} was writable; it is now frozen because another layer is based on it",
                     layer.name));
  return Ok{};
}

Table::Table(std::vector<std::string> header, std::string align) : align_(std::move(align)) {
  rows_.push_back(std::move(header));
}

void Table::add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

void Table::print(std::ostream& out) const {
  std::vector<std::size_t> widths(align_.size());
  for (auto const& row : rows_)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  for (auto const& row : rows_) {
    if (row.empty()) continue;  // no header
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      std::string const pad(widths[i] - width(row[i]), ' ');
      if (i != 0) line += "  ";
      line += align_[i] == 'r' ? pad + row[i] : row[i] + pad;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out << line << '\n';
  }
}

}  // namespace lcfs::cli
