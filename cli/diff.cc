// SPDX-License-Identifier: Apache-2.0
// lcfs diff: compares two layers.
#include "engine/diff.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <map>

#include "cli/changeset_sink.h"
#include "cli/commands.h"
#include "cli/diff_patch.h"
#include "cli/epoch.h"
#include "cli/fd_stream.h"
#include "cli/file_text.h"
#include "cli/json.h"
#include "cli/print.h"
#include "cli/signals.h"
#include "cli/store_arg.h"
#include "cli/units.h"
#include "exporter/changeset_tar.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::uint64_t at = 0;
  std::string store{}, a{}, b{}, oci{};
  std::vector<std::string> paths{};
  bool json = false, stat = false, summary = false, patch = false, exclude_times = false;
};

// "etc//ssl/" becomes "/etc/ssl".
std::string clean_path(std::string_view path) {
  std::string out;
  while (!path.empty()) {
    path.remove_prefix(std::min(path.find_first_not_of('/'), path.size()));
    auto const name = path.substr(0, path.find('/'));
    path.remove_prefix(name.size());
    if (name.empty() || name == ".") continue;
    out += '/';
    out += name;
  }
  return out.empty() ? "/" : out;
}

std::string parent_of(std::string const& path) {
  return path.substr(0, std::max<std::size_t>(path.rfind('/'), 1));
}

std::uint64_t changed_bytes(DiffEntry const& entry) {
  std::uint64_t bytes = 0;
  for (auto const& range : entry.content) bytes += range.length;
  return bytes;
}

// Lines -------------------------------------------------------------------------------------------

std::string line_of(DiffEntry const& entry) {
  switch (entry.kind) {
    case DiffKind::kDeleted: return "D " + escape(entry.path);
    case DiffKind::kModified: return "C " + escape(entry.path);
    case DiffKind::kRenamed:
      return fmt::format("R {} -> {}", escape(entry.from), escape(entry.path));
    default: break;
  }
  return "A " + escape(entry.path) +
         (entry.link_to.empty() ? "" : " link to " + escape(entry.link_to));
}

void print_lines(std::vector<DiffEntry> const& entries, std::ostream& out) {
  for (auto const& entry : entries) out << line_of(entry) << '\n';
}

// One line for each directory that was added or deleted with all its contents.
void print_summary(std::vector<DiffEntry> const& entries, std::ostream& out) {
  // Value: number of entries below.
  std::map<std::pair<DiffKind, std::string>, std::uint64_t> folded;
  auto const top_of = [&folded](DiffEntry const& entry) {
    for (auto path = entry.path; path != "/";) {
      path = parent_of(path);
      if (auto const it = folded.find({entry.kind, path}); it != folded.end()) return it;
    }
    return folded.end();
  };
  for (auto const& entry : entries) {  // a directory comes before its contents
    if (auto const top = top_of(entry); top != folded.end()) {
      ++top->second;
    } else if (S_ISDIR(entry.mode) &&
               (entry.kind == DiffKind::kAdded || entry.kind == DiffKind::kDeleted)) {
      folded.emplace(std::pair{entry.kind, entry.path}, 0);
    }
  }
  for (auto const& entry : entries) {
    if (top_of(entry) != folded.end()) continue;
    auto const top = folded.find({entry.kind, entry.path});
    out << line_of(entry);
    if (top != folded.end() && top->second != 0) out << fmt::format(" and {} below", top->second);
    out << '\n';
  }
}

// JSON --------------------------------------------------------------------------------------------

char const* kind_text(DiffKind kind) {
  switch (kind) {
    case DiffKind::kDeleted: return "deleted";
    case DiffKind::kAdded: return "added";
    case DiffKind::kRenamed: return "renamed";
    default: return "modified";
  }
}

constexpr char const* kChanges[] = {"type",   "content", "mode",   "owner", "times",
                                    "xattrs", "rdev",    "target", "links"};

// "C /etc: mode, times".
std::string words_of(DiffEntry const& entry) {
  std::vector<char const*> changes;
  for (unsigned i = 0; i < std::size(kChanges); ++i) {
    if ((entry.changes >> i & 1) != 0) changes.push_back(kChanges[i]);
  }
  return line_of(entry) + (changes.empty() ? "" : fmt::format(": {}", fmt::join(changes, ", ")));
}

void print_objects(std::vector<DiffEntry> const& entries, std::ostream& out) {
  for (auto const& entry : entries) {
    Json object;
    put_bytes(object, "path", entry.path);
    object["kind"] = kind_text(entry.kind);
    object["type"] = type_text(entry.mode);
    object["size"] = entry.size;
    object["from"] = nullptr;
    if (!entry.from.empty()) put_bytes(object, "from", entry.from);
    object["link_to"] = nullptr;
    if (!entry.link_to.empty()) put_bytes(object, "link_to", entry.link_to);
    object["changes"] = Json::array();
    for (unsigned i = 0; i < std::size(kChanges); ++i) {
      if ((entry.changes >> i & 1) != 0) object["changes"].push_back(kChanges[i]);
    }
    object["extents"] = Json::array();
    for (auto const& range : entry.content)
      object["extents"].push_back({{"offset", range.offset}, {"bytes", range.length}});
    object["xattrs"] = Json::array();
    for (auto const& name : entry.xattrs) {
      Json xattr;
      put_bytes(xattr, "name", name);
      object["xattrs"].push_back(std::move(xattr));
    }
    print_json(out, object);
  }
}

// Totals ------------------------------------------------------------------------------------------

struct Totals {
  std::uint64_t added = 0, changed = 0, deleted = 0, renamed = 0;
  std::uint64_t added_bytes = 0, changed_bytes = 0, deleted_bytes = 0;

  void count(DiffEntry const& entry) {
    bool const file = S_ISREG(entry.mode);
    switch (entry.kind) {
      case DiffKind::kAdded:
        ++added;
        if (file && entry.link_to.empty()) added_bytes += entry.size;
        break;
      case DiffKind::kDeleted:
        ++deleted;
        if (file && entry.b == 0) deleted_bytes += entry.size;
        break;
      case DiffKind::kRenamed: ++renamed; [[fallthrough]];
      case DiffKind::kModified:
        if (entry.kind == DiffKind::kModified) ++changed;
        changed_bytes += lcfs::cli::changed_bytes(entry);
        break;
    }
  }
};

void print_totals(std::vector<DiffEntry> const& entries, bool json, std::ostream& out) {
  std::map<std::string, Totals> directories;
  Totals all;
  for (auto const& entry : entries) {
    directories[parent_of(entry.path)].count(entry);
    all.count(entry);
  }
  Table table(
      {"DIRECTORY", "ADDED", "CHANGED", "DELETED", "RENAMED", "BYTES ADDED", "CHANGED", "DELETED"},
      "lrrrrrrr");
  auto const add = [&](std::string const* directory, Totals const& t) {
    if (!json) {
      table.add({directory != nullptr ? escape(*directory) : "total", std::to_string(t.added),
                 std::to_string(t.changed), std::to_string(t.deleted), std::to_string(t.renamed),
                 size_text(t.added_bytes), size_text(t.changed_bytes), size_text(t.deleted_bytes)});
      return;
    }
    Json object;
    object["directory"] = nullptr;
    if (directory != nullptr) put_bytes(object, "directory", *directory);
    object.update({{"added", t.added},
                   {"changed", t.changed},
                   {"deleted", t.deleted},
                   {"renamed", t.renamed},
                   {"added_bytes", t.added_bytes},
                   {"changed_bytes", t.changed_bytes},
                   {"deleted_bytes", t.deleted_bytes}});
    print_json(out, object);
  };
  for (auto const& [directory, totals] : directories) add(&directory, totals);
  add(nullptr, all);
  if (!json) table.print(out);
}

// A changeset -------------------------------------------------------------------------------------

// Writes a file that appears under its name only when it is complete.  Writes directly to what is
// not a regular file.
template <class Write>
Status write_whole_file(std::string const& path, std::atomic<bool> const& stop,
                        Write const& write) {
  struct stat there {};
  bool const direct = stat(path.c_str(), &there) == 0 && !S_ISREG(there.st_mode);
  auto const name = direct ? path : path + ".partial";
  int const fd = open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) return Error::io("cannot create", errno).in(name);
  Status done;
  {
    FdStream out(fd, &stop);
    done = write(out);
    out.flush();
    if (done && !out) done = Error::io("cannot write", out.error()).in(name);
    bool const cannot_write = !done && out.error() != 0 && done.error().path.empty() &&
                              done.error().code != Errc::kInterrupted;
    if (cannot_write) done = Error::io("cannot write", out.error()).in(name);
  }
  if (close(fd) != 0 && done) done = Error::io("cannot write", errno).in(name);
  if (direct) return done;
  if (done && std::rename(name.c_str(), path.c_str()) != 0)
    done = Error::io("cannot create", errno).in(path);
  if (!done) (void)unlink(name.c_str());
  return done;
}

Status write_changeset(Options const& options, Context& context, LayerDiff& diff,
                       std::vector<DiffEntry> const& entries) {
  LCFS_TRY_ASSIGN(auto const latest, source_date_epoch(context.io));
  LCFS_TRY_ASSIGN(auto const items, changeset_of(diff, entries));
  StopOnSignal const signals(context.io);
  auto const write = [&](std::ostream& out) {
    ChangesetSink sink(diff.b(), out, signals.stop());
    return exporter::ChangesetTar(
               diff.b(), sink, latest,
               [&context](std::string const& path) {
                 warn(context, "diff",
                      fmt::format("{}: left out: a tar cannot hold sockets", escape(path)));
               })
        .write(items);
  };
  return options.oci == "-" ? write(context.io.out)
                            : write_whole_file(options.oci, signals.stop(), write);
}

// Adds the path as each of the two layers resolves it: their symlinks can differ.
Status add_filter(LayerDiff& diff, std::string const& path, std::vector<std::string>& below) {
  bool there = false;
  for (auto* layer : {&diff.a(), &diff.b()}) {
    LCFS_TRY_ASSIGN(auto const real, layer->real_path(clean_path(path)));
    LCFS_TRY_ASSIGN(Inode const inode, layer->find(real));
    there = there || inode != 0;
    below.push_back(real);
  }
  return there ? Status{} : Error::not_found("no such path in either layer").in(path);
}

constexpr std::uint64_t kNodeCache = std::uint64_t{128}
                                     << 20;  // bytes; filled only if that much differs

Status run_diff(Options const& options, Context& context) {
  if (options.oci == "-" && context.io.out_fd >= 0 && isatty(context.io.out_fd) == 1)
    return Error::invalid("standard output is a terminal; write to a file, or redirect it");
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadOnly, options.at));
  // Nodes that differ are read more than once.  A server keeps its own cache limit.
  if (!store.mounted()) store->set_node_cache_limit(kNodeCache);
  LCFS_TRY_ASSIGN(auto const a, store->resolve_layer(options.a));
  LCFS_TRY_ASSIGN(auto const b, store->resolve_layer(options.b));
  LCFS_TRY_ASSIGN(auto const diff, LayerDiff::open(*store, a, b));
  DiffOptions how;
  how.exclude_times = options.exclude_times;
  for (auto const& path : options.paths) LCFS_TRY(add_filter(*diff, path, how.below));
  LCFS_TRY_ASSIGN(auto const entries, diff->run(how));
  bool unreadable = false;
  if (!options.oci.empty()) {
    LCFS_TRY(write_changeset(options, context, *diff, entries));
  } else if (options.patch) {
    StopOnSignal const signals(context.io);
    auto const report = [&](DiffEntry const& entry, Error const& error) {
      warn(context, "diff", fmt::format("{}: {}", escape(entry.path), error.text()));
      unreadable = true;
    };
    LCFS_TRY(write_patch(*diff, entries, context.io.out, words_of, report, signals.stop()));
  } else if (options.stat) {
    print_totals(entries, options.json, context.io.out);
  } else if (options.json) {
    print_objects(entries, context.io.out);
  } else if (options.summary) {
    print_summary(entries, context.io.out);
  } else {
    print_lines(entries, context.io.out);
  }
  context.exit = unreadable ? kTrouble : entries.empty() ? kSame : kDiffer;
  return Ok{};
}

}  // namespace

void add_diff(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("diff", "Compare two layers");
  add_store_option(*cmd, options->store);
  add_at_option(*cmd, options->at);
  auto* json = cmd->add_flag("--json", options->json, "Print one JSON object per difference");
  auto* stat = cmd->add_flag("--stat", options->stat, "Print totals per directory");
  auto* summary = cmd->add_flag("--summary", options->summary,
                                "Print one line for a directory added or deleted as a whole");
  auto* oci = cmd->add_option("--oci", options->oci,
                              "Write an OCI layer tar that turns A into B (-: standard output)");
  oci->type_name("FILE")->excludes(json)->excludes(stat)->excludes(summary);
  summary->excludes(json)->excludes(stat);
  cmd->add_flag("-p,--patch", options->patch,
                "Print a patch in git format; other differences are comments")
      ->excludes(json)
      ->excludes(stat)
      ->excludes(summary)
      ->excludes(oci);
  cmd->add_flag("--exclude-times", options->exclude_times, "Ignore modification times");
  cmd->add_option("A", options->a, "Old layer: name, image, digest or unique prefix")->required();
  cmd->add_option("B", options->b, "New layer: name, image, digest or unique prefix")->required();
  cmd->add_option("PATH", options->paths, "Compare only what is at or below these paths");
  cmd->footer("Example:\n  lcfs diff debian:12 work /etc");
  cmd->callback([options, &context] {
    auto const done = run_diff(*options, context);
    if (done) return;
    int const code = fail(context, "diff", done.error());
    context.exit = context.forwarded ? code : int{kTrouble};
  });
}

}  // namespace lcfs::cli
