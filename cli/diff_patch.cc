// SPDX-License-Identifier: Apache-2.0
#include "cli/diff_patch.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>

#include "cli/text_diff.h"
#include "cli/units.h"

namespace lcfs::cli {
namespace {

// Quotes a name as git does if it would break a line or a word.
std::string quoted(std::string const& name) {
  bool const plain = std::none_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == '"' || c == '\\' || c == 0x7f;
  });
  if (plain) return name;
  std::string out = "\"";
  for (char const c : name) {
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\{:03o}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

bool has_content(std::uint32_t mode) { return S_ISREG(mode) || S_ISLNK(mode); }

char const* git_mode(std::uint32_t mode) {
  return S_ISLNK(mode) ? "120000" : (mode & 0100) != 0 ? "100755" : "100644";
}

// One side of a file.
struct Side {
  std::uint32_t mode = 0;
  std::uint64_t size = 0;
  std::optional<std::string> text{};  // empty: binary, or too large
};

class Patch {
 public:
  Patch(LayerDiff& diff, std::ostream& out, std::atomic<bool> const& stop)
      : diff_(diff), out_(out), stop_(stop) {}

  // False: a patch cannot express any part of this difference.
  Result<bool> write(DiffEntry const& e) {
    if (stop_.load(std::memory_order_relaxed)) return Error::interrupted();
    std::optional<Side> a, b;
    if (e.kind != DiffKind::kAdded) LCFS_TRY(load(diff_.a(), e.a, a));
    if (e.kind != DiffKind::kDeleted) LCFS_TRY(load(diff_.b(), e.b, b));
    if (!a && !b) return false;
    LCFS_TRY_ASSIGN(auto const path, new_path(e));
    auto const old_path = e.kind == DiffKind::kRenamed ? e.from : path;
    if (a && b && (a->mode & S_IFMT) != (b->mode & S_IFMT)) {
      print(&*a, nullptr, old_path, old_path);
      print(nullptr, &*b, path, path);
      return true;
    }
    bool const changed = !a || !b || (e.changes & (kDiffContent | kDiffTarget)) != 0;
    bool const expressible =
        changed || e.kind == DiffKind::kRenamed || git_mode(a->mode) != git_mode(b->mode);
    if (expressible) print(a ? &*a : nullptr, b ? &*b : nullptr, old_path, path, changed);
    return expressible;
  }

 private:
  // A patch cannot rename directories, so files below a renamed one keep their old path.
  Result<std::string> new_path(DiffEntry const& e) {
    if (e.kind != DiffKind::kModified) return e.path;
    LCFS_TRY_ASSIGN(auto const before, diff_.a().paths(e.a));
    bool const same =
        before.empty() || std::find(before.begin(), before.end(), e.path) != before.end();
    return same ? e.path : before.front();
  }

  static Status load(LayerSnapshot& layer, Inode inode, std::optional<Side>& into) {
    LCFS_TRY_ASSIGN(auto const info, layer.inode(inode));
    if (!has_content(info.mode)) return Ok{};
    into.emplace();
    into->mode = info.mode;
    into->size = info.size;
    if (S_ISLNK(info.mode)) {
      LCFS_TRY_ASSIGN(into->text, layer.target(inode));
      return Ok{};
    }
    if (info.size > kMaxPatchFile) return Ok{};
    std::string text;
    AlignedBuffer buffer(LayerSnapshot::kMaxRead);
    for (std::uint64_t at = 0; at < info.size;) {
      std::uint64_t const n = std::min<std::uint64_t>(info.size - at, LayerSnapshot::kMaxRead);
      LCFS_TRY(layer.read(inode, at, buffer, (n + kBlockSize - 1) / kBlockSize * kBlockSize));
      text.append(reinterpret_cast<char const*>(buffer.data()), n);
      at += n;
    }
    if (text.find('\0') == std::string::npos) into->text = std::move(text);
    return Ok{};
  }

  void print(Side const* a, Side const* b, std::string const& old_path, std::string const& path,
             bool changed = true) {
    auto const from = quoted("a" + old_path), to = quoted("b" + path);
    auto const left = a == nullptr ? "/dev/null" : from, right = b == nullptr ? "/dev/null" : to;
    if (changed && ((a != nullptr && !a->text) || (b != nullptr && !b->text))) {
      // A comment, because git rejects a patch that names a file but lacks its content.
      std::uint64_t const size = std::max(a == nullptr ? 0 : a->size, b == nullptr ? 0 : b->size);
      out_ << (size > kMaxPatchFile
                   ? fmt::format("# Files {} and {} differ ({}: too large for a patch)\n", left,
                                 right, size_text(size))
                   : fmt::format("# Binary files {} and {} differ\n", left, right));
      return;
    }
    out_ << fmt::format("diff --git {} {}\n", from, to);
    if (a == nullptr) out_ << fmt::format("new file mode {}\n", git_mode(b->mode));
    if (b == nullptr) out_ << fmt::format("deleted file mode {}\n", git_mode(a->mode));
    if (a != nullptr && b != nullptr && git_mode(a->mode) != git_mode(b->mode))
      out_ << fmt::format("old mode {}\nnew mode {}\n", git_mode(a->mode), git_mode(b->mode));
    if (old_path != path)
      out_ << fmt::format("rename from {}\nrename to {}\n", quoted(old_path.substr(1)),
                          quoted(path.substr(1)));
    if (!changed) return;
    std::string const none;
    auto const &before = a == nullptr ? none : *a->text, &after = b == nullptr ? none : *b->text;
    if (before == after) return;
    auto const end = [](std::string const& name) {
      return name.find(' ') == std::string::npos ? "" : "\t";
    };  // git ends a name that contains spaces with a tab
    out_ << fmt::format("--- {}{}\n+++ {}{}\n", left, end(left), right, end(right));
    print_hunks(before, after, out_);
  }

  LayerDiff& diff_;
  std::ostream& out_;
  std::atomic<bool> const& stop_;
};

}  // namespace

Status write_patch(LayerDiff& diff, std::vector<DiffEntry> const& entries, std::ostream& out,
                   std::function<std::string(DiffEntry const&)> const& words,
                   std::function<void(DiffEntry const&, Error const&)> const& unreadable,
                   std::atomic<bool> const& stop) {
  Patch patch(diff, out, stop);
  for (auto const& entry : entries) {
    auto const written = patch.write(entry);
    if (!written && written.error().code != Errc::kCorrupt && written.error().code != Errc::kIo)
      return written.error();
    if (!written)
      unreadable(entry, written.error());
    else if (!*written)
      out << "# " << words(entry) << '\n';
  }
  return Ok{};
}

}  // namespace lcfs::cli
