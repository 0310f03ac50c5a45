// SPDX-License-Identifier: Apache-2.0
// lcfs fsck: checks a store.  Exit codes are those of fsck(8).
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "cli/store_arg.h"
#include "device/checks.h"
#include "device/lock.h"
#include "fsck/check.h"
#include "mount/mount_table.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{}, positional{};
  bool no_write = false, no_data = false, quiet = false, json = false;
};

char const* slot_text(fsck::Slot const& slot) {
  switch (slot.state) {
    case fsck::SlotState::kValid: return "valid";
    case fsck::SlotState::kEmpty: return "empty";
    case fsck::SlotState::kDamaged: break;
  }
  return "damaged";
}

Json finding_json(fsck::Finding const& finding) {
  Json object;
  object["finding"] = fsck::code_name(finding.code);
  object["severity"] = finding.severity == fsck::Severity::kError ? "error" : "note";
  object["layer"] = finding.layer_name.empty() ? Json(nullptr) : Json(finding.layer_name);
  if (finding.path.empty())
    object["path"] = nullptr;
  else
    put_bytes(object, "path", finding.path);
  object["inode"] = finding.inode == 0 ? Json(nullptr) : Json(finding.inode);
  object["offset"] = finding.offset == kNoOffset ? Json(nullptr) : Json(finding.offset);
  object["text"] = finding.text;
  return object;
}

Json summary_json(std::string const& path, fsck::Report const& report) {
  Json object;
  put_bytes(object, "store", path);
  object["clean"] = report.clean();
  object["errors"] = report.errors;
  object["notes"] = report.notes;
  object["left_out"] = report.left_out;
  object["uuid"] = report.superblock ? Json(uuid_text(report.superblock->uuid)) : Json(nullptr);
  object["generation"] = report.superblock ? Json(report.superblock->generation) : Json(nullptr);
  object["slot"] = report.in_force ? Json(*report.in_force) : Json(nullptr);
  object["slots"] = Json::array();
  for (auto const& slot : report.slots)
    object["slots"].push_back({{"state", slot_text(slot)}, {"generation", slot.generation}});
  auto const& counters = report.counters;
  object["layers"] = counters.layers;
  object["images"] = counters.images;
  object["inodes"] = counters.inodes;
  object["total_bytes"] = counters.total * kBlockSize;
  object["free_bytes"] = counters.free * kBlockSize;
  object["nodes_read"] = counters.nodes_read;
  object["data_bytes_checked"] = counters.data_checked * kBlockSize;
  return object;
}

void print(Options const& options, std::string const& path, fsck::Report const& report, Io const& io) {
  if (options.json) {
    for (auto const& finding : report.findings) print_json(io.out, finding_json(finding));
    print_json(io.out, summary_json(path, report));
    return;
  }
  for (auto const& finding : report.findings)
    io.out << fmt::format("{}: {}: {}\n", finding.severity == fsck::Severity::kError ? "error" : "note",
                          fsck::code_name(finding.code), escape_controls(finding.line()));
  if (report.left_out != 0) io.out << fmt::format("{} more findings are not shown\n", report.left_out);
  if (options.quiet && report.clean()) return;
  auto const& counters = report.counters;
  io.out << fmt::format("{}: {}, {} layers, {} images, {} inodes, {}/{} blocks free{}\n", escape(path),
                        report.clean() ? "clean" : fmt::format("{} errors", report.errors), counters.layers,
                        counters.images, counters.inodes, counters.free, counters.total,
                        options.no_data ? ", data not checked" : "");
}

int operational(Context const& context, Error const& error) {
  fail(context, "fsck", error);
  return kFsckOperation;
}

// "mounted by pid 5 at /mnt, /srv"
Error mounted(std::string const& path, std::optional<pid_t> pid) {
  std::vector<std::string> places;
  if (auto const store = mount::store_identity(path))
    if (auto const mounts = mount::mounts_of(*store))
      for (auto const& entry : *mounts) places.push_back(entry.directory);
  return Error{Errc::kBusy,
               fmt::format("mounted by {}{}{}; lcfs umount ends that, and lcfs fsck -n only looks",
                           pid ? fmt::format("pid {}", *pid) : "another process", places.empty() ? "" : " at ",
                           fmt::join(places, ", ")),
               0, path, kNoOffset};
}

// Repairs are not there yet, and would be no good on a mounted store.
int refuse_to_write(Context const& context, std::string const& path) {
  if (is_served(context, path)) return operational(context, mounted(path, getpid()));
  auto const store = mount::store_identity(path);
  auto const mounts = store ? mount::mounts_of(*store) : std::vector<mount::MountEntry>{};
  if (mounts && !mounts->empty()) {
    Fd const file = open_fd(path, O_RDONLY | O_NONBLOCK);
    return operational(context, mounted(path, file ? lock_holder(file.get()) : std::nullopt));
  }
  context.io.err << "lcfs: fsck: -n is required, for repairs are not there yet; see lcfs fsck --help\n";
  return kFsckUsage;
}

// What is checked, and what keeps it from changing meanwhile.
struct Subject {
  std::unique_ptr<Device> device{};
  CheckpointPin pin{};
  bool in_use = false;  // nothing keeps it
};

Result<Subject> open_subject(Context& context, std::string const& path) {
  Subject subject;
  if (is_served(context, path)) {
    auto& store = context.served->serving.store;
    // So that what is checked is what is there.  A store that can't be written is checked as it is on the device.
    if (auto done = store.checkpoint(); !done && done.error().code != Errc::kReadOnly) return std::move(done).error();
    subject.pin = store.pin();
    LCFS_TRY_ASSIGN(subject.device, open_device(path, Access::kReadOnlyNoLock));
    return subject;
  }
  auto device = open_device(path, Access::kReadOnly);
  subject.in_use = !device && device.error().code == Errc::kBusy;
  if (subject.in_use) {
    LCFS_TRY_ASSIGN(context.forwarded, forward(context, path));
    if (context.forwarded) return std::move(device).error();
    warn(context, "fsck", device.error().text() + "; it is read all the same");
    device = open_device(path, Access::kReadOnlyNoLock);
  }
  if (!device) return std::move(device).error();
  subject.device = *std::move(device);
  return subject;
}

int run_fsck(Options const& options, Context& context) {
  auto const path = options.positional.empty() ? store_path(context.io, options.store) : options.positional;
  if (!options.no_write) return refuse_to_write(context, path);
  auto const subject = open_subject(context, path);
  if (context.forwarded) return context.exit;
  if (!subject) return operational(context, subject.error());
  fsck::Options how;
  how.data = !options.no_data;
  Progress progress(context.io, options.quiet ? Progress::Mode::kNone : Progress::Mode::kAuto);
  how.progress = [&progress](std::string_view layer, std::uint64_t done, std::uint64_t of) {
    progress.layers(layer, done, of);
  };
  auto const report = fsck::check(*subject->device, how);
  progress.finish();
  if (!report) return operational(context, report.error());
  print(options, path, *report, context.io);
  if (report->clean()) return kFsckClean;
  if (!subject->in_use) return kFsckDamage;
  return operational(context, Error{Errc::kBusy, "the store was in use, so what was found may be its changes only", 0,
                                    path, kNoOffset});
}

}  // namespace

void add_fsck(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("fsck", "Check a store");
  auto* store = add_store_option(*cmd, options->store);
  cmd->add_flag("-n", options->no_write, "Only report, write nothing; needed, as repairs are not there yet");
  cmd->add_flag("--no-data", options->no_data, "Leave out the checksums of file data");
  cmd->add_flag("-q,--quiet", options->quiet, "Print nothing if the store is clean");
  cmd->add_flag("--json", options->json, "Print one JSON object a finding, then one for the store");
  cmd->add_option("STORE", options->positional, "File or block device (default: the store that --store would mean)")
      ->excludes(store);
  cmd->set_version_flag("-V,--version", version_text(), "Print the version");
  cmd->footer("Example:\n  lcfs fsck -n /srv/images.lcfs");
  cmd->callback([options, &context] { context.exit = run_fsck(*options, context); });
}

}  // namespace lcfs::cli
