// SPDX-License-Identifier: Apache-2.0
// lcfs fsck: checks and repairs a store.  The exit codes are those of fsck(8).
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/commands.h"
#include "cli/fsck_print.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/store_arg.h"
#include "device/checks.h"
#include "device/lock.h"
#include "fsck/check.h"
#include "fsck/healer.h"
#include "fsck/repair.h"
#include "heal/offer.h"
#include "mount/mount_table.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{}, positional{}, heal_from{};
  bool no_write = false, preen = false, automatic = false, yes = false, force = false,
       remove_unreadable = false, search = false;
  bool progress = false;
  int progress_fd = 0;
  FsckStyle style{};
};

int operational(Context const& context, Error const& error) {
  fail(context, "fsck", error);
  return error.code == Errc::kInterrupted ? kFsckCancelled : kFsckOperation;
}

// "mounted at /mnt, /srv by pid 5; ..."
Error mounted(std::string const& path, std::optional<pid_t> pid) {
  std::vector<std::string> places;
  if (auto const store = mount::store_identity(path))
    if (auto const mounts = mount::mounts_of(*store))
      for (auto const& entry : *mounts) places.push_back(entry.directory);
  return Error::busy(fmt::format("mounted{}{} by {}; unmount it (lcfs umount), or check it with -n",
                                 places.empty() ? "" : " at ", fmt::join(places, ", "),
                                 pid ? fmt::format("pid {}", *pid) : "another process"))
      .in(path);
}

// A mounted store must not be repaired.
Status refuse_mounted(Context const& context, std::string const& path) {
  if (is_served(context, path)) return mounted(path, getpid());
  auto const store = mount::store_identity(path);
  auto const mounts = store ? mount::mounts_of(*store) : std::vector<mount::MountEntry>{};
  if (!mounts || mounts->empty()) return {};
  Fd const file = open_fd(path, O_RDONLY | O_NONBLOCK);
  return mounted(path, file ? lock_holder(file.get()) : std::nullopt);
}

// The device to check, and what keeps its contents from changing meanwhile.
struct Subject {
  std::unique_ptr<Device> device{};
  CheckpointPin pin{};
  bool in_use = false;  // somebody else can change it
};

Result<Subject> open_subject(Context& context, std::string const& path) {
  Subject subject;
  if (is_served(context, path)) {
    auto& store = context.served->serving.store;
    // The device must hold the current state.  A store that cannot be written is checked as it is
    // on the device.
    if (auto done = store.checkpoint(); !done && done.error().code != Errc::kReadOnly)
      return std::move(done).error();
    subject.pin = store.pin();
    LCFS_TRY_ASSIGN(subject.device, open_device(path, Access::kReadOnlyNoLock));
    return subject;
  }
  auto device = open_device(path, Access::kReadOnly);
  subject.in_use = !device && device.error().code == Errc::kBusy;
  if (subject.in_use) {
    LCFS_TRY_ASSIGN(context.forwarded, forward(context, path));
    if (context.forwarded) return std::move(device).error();
    warn(context, "fsck", device.error().text() + "; checking it anyway");
    device = open_device(path, Access::kReadOnlyNoLock);
  }
  if (!device) return std::move(device).error();
  subject.device = *std::move(device);
  return subject;
}

// The progress bar of -C, or lines "pass done all what" on a descriptor of the calling program, in
// the form that fsck(8) reads.
class Show {
 public:
  Show(Options const& options, Io const& io)
      : options_(options),
        progress_(io, options.style.quiet && !options.progress ? Progress::Mode::kNone
                      : options.progress && !io.err_is_tty     ? Progress::Mode::kPlain
                                                               : Progress::Mode::kAuto) {}

  void layers(std::string_view layer, std::uint64_t done, std::uint64_t of) {
    if (options_.progress && options_.progress_fd > 0) {
      auto const line = fmt::format("1 {} {} {}\n", done, of, escape(layer));
      [[maybe_unused]] auto const n =
          ::write(options_.progress_fd, line.data(), line.size());  // the reader can be gone
      return;
    }
    progress_.layers(layer, done, of);
  }
  void finish() { progress_.finish(); }

 private:
  Options const& options_;
  Progress progress_;
};

fsck::Options check_options(Options const& options, Show& show, StopOnSignal const& signals) {
  fsck::Options how;
  how.data = options.style.data;
  how.walk_all = options.force;
  how.search = options.search;
  how.stop = &signals.stop();
  how.progress = [&show](std::string_view layer, std::uint64_t done, std::uint64_t of) {
    show.layers(layer, done, of);
  };
  return how;
}

int check_only(Options const& options, Context& context, std::string const& path) {
  auto const subject = open_subject(context, path);
  if (context.forwarded) return context.exit;
  if (!subject) return operational(context, subject.error());
  Show show(options, context.io);
  StopOnSignal const signals(context.io);
  auto const report = fsck::check(*subject->device, check_options(options, show, signals));
  show.finish();
  if (!report) return operational(context, report.error());
  print_findings(options.style, *report, context.io);
  print_summary(options.style, path, *report, false, 0, context.io);
  if (report->clean()) return kFsckClean;
  if (!subject->in_use) return kFsckDamage;
  return operational(
      context,
      Error::busy("the store was in use; the findings can be changes rather than damage").in(path));
}

// Answers for one run: from the options, or from the user at the terminal.
class Answers {
 public:
  Answers(Options const& options, Io const& io) : options_(options), io_(io), all_(options.yes) {}

  bool operator()(fsck::Proposal const& proposal) {
    bool const yes = decide(proposal);
    print_repair(options_.style, proposal, yes, io_);
    return yes;
  }

 private:
  bool decide(fsck::Proposal const& proposal) {
    // Removing a file loses its intact part too, so "yes to all" does not include it.
    if (proposal.step == fsck::Step::kFiles &&
        (options_.remove_unreadable || options_.yes || options_.preen))
      return options_.remove_unreadable && !options_.preen;
    if (options_.preen) return proposal.safe;
    if (all_) return true;
    io_.out.flush();
    io_.err << proposal_text(proposal) << "? (y)es, (n)o, yes to (a)ll: " << std::flush;
    auto const answer = read_letter();
    all_ = answer == 'a';
    return answer == 'y' || all_;
  }
  char read_letter() const {
    char first = 0;
    for (char c = 0; ::read(io_.in_fd, &c, 1) == 1 && c != '\n';)
      if (first == 0) first = c;
    return first;
  }

  Options const& options_;
  Io const& io_;
  bool all_;
};

Result<std::uint64_t> heal(Options const& options, Context const& context, Device& device,
                           fsck::Options const& how) {
  LCFS_TRY_ASSIGN(auto const healer, fsck::Healer::look(device, how));
  // A wrong name is an error even if nothing has to be healed.
  if (options.heal_from != "-" && ::access(options.heal_from.c_str(), R_OK) != 0)
    return Error::io("cannot open", errno).in(options.heal_from);
  if (healer->damaged() == 0) return std::uint64_t{0};
  LCFS_TRY(heal::offer_archive(*healer, options.heal_from, context.io.in_fd));
  LCFS_TRY(healer->finish());
  if (healer->healed() == 0)
    warn(context, "fsck",
         fmt::format("{}: contains none of the {} damaged blocks", escape(options.heal_from),
                     healer->damaged()));
  return healer->healed();
}

int repair_store(Options const& options, Context& context, std::string const& path) {
  auto const& io = context.io;
  if (auto const free = refuse_mounted(context, path); !free)
    return operational(context, free.error());
  auto const device = open_device(path, Access::kReadWrite);
  if (!device) return operational(context, device.error());
  if (!options.preen && !options.yes &&
      (isatty(io.in_fd) == 0 || io.out_fd < 0 || isatty(io.out_fd) == 0)) {
    fail(context, "fsck",
         Error::invalid("not a terminal: choose -n (check only), -p (safe repairs) or -y (all "
                        "repairs)")
             .in(path));
    return kFsckOperation;
  }
  Show show(options, io);
  StopOnSignal const signals(io);
  auto const how = check_options(options, show, signals);
  std::uint64_t healed = 0;
  if (!options.heal_from.empty()) {
    auto const done = heal(options, context, **device, how);
    show.finish();
    if (!done) return operational(context, done.error());
    healed = *done;
  }
  Answers answers(options, io);
  fsck::RepairOptions repair;
  repair.check = how;
  repair.found = [&](fsck::Report const& report) {
    show.finish();
    print_findings(options.style, report, io);
  };
  repair.ask = [&answers](fsck::Proposal const& proposal) { return answers(proposal); };
  auto const done = fsck::repair(**device, repair);
  show.finish();
  if (!done) return operational(context, done.error());
  bool const changed = done->changed || healed != 0;
  print_summary(options.style, path, done->after, changed, healed, io);
  if (options.preen && !done->after.clean())
    warn(context, "fsck",
         path + ": errors are left that -p does not repair; run lcfs fsck without -p");
  return (changed ? int{kFsckCorrected} : int{kFsckClean}) |
         (done->after.clean() ? int{kFsckClean} : int{kFsckDamage});
}

int run_fsck(Options& options, Context& context) {
  auto const path =
      options.positional.empty() ? store_path(context.io, options.store) : options.positional;
  options.preen = options.preen || options.automatic;
  if (int{options.no_write} + int{options.preen} + int{options.yes} > 1) {
    context.io.err << "lcfs fsck: -n, -p (or -a) and -y exclude each other; see lcfs fsck --help\n";
    return kFsckUsage;
  }
  if (options.no_write && (options.remove_unreadable || !options.heal_from.empty())) {
    context.io.err << "lcfs fsck: --heal-from and --remove-unreadable write to the store, -n does "
                      "not; see lcfs fsck --help\n";
    return kFsckUsage;
  }
  if (options.preen && options.remove_unreadable) {
    context.io.err << "lcfs fsck: --remove-unreadable loses files, which -p never does; use -y, or "
                      "answer the questions; see lcfs fsck --help\n";
    return kFsckUsage;
  }
  options.style.data =
      options.style.data || options.remove_unreadable || !options.heal_from.empty();
  return options.no_write ? check_only(options, context, path)
                          : repair_store(options, context, path);
}

}  // namespace

void add_fsck(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("fsck", "Check and repair a store");
  auto* store = add_store_option(*cmd, options->store);
  cmd->add_flag("-n", options->no_write, "Check only; write nothing");
  cmd->add_flag("-p", options->preen, "Make repairs that cannot lose anything, without asking");
  cmd->add_flag("-a", options->automatic, "Same as -p");
  cmd->add_flag("-y", options->yes, "Make all repairs without asking");
  cmd->add_flag("-f", options->force, "Walk the whole tree of every layer");
  cmd->add_flag("-v,--verbose", options->style.verbose,
                "Also print what was read and how blocks are used");
  cmd->add_option("-C", options->progress_fd,
                  "Show progress; FD other than 0: as lines on that descriptor")
      ->type_name("FD");
  cmd->add_flag("--data", options->style.data, "Check the checksums of all file data");
  cmd->add_option("--heal-from", options->heal_from,
                  "Replace damaged data with data from this archive (-: stdin)")
      ->type_name("ARCHIVE");
  cmd->add_flag("--remove-unreadable", options->remove_unreadable,
                "Remove files whose data cannot be read");
  cmd->add_flag("--search", options->search, "Search the whole store for an intact store tree");
  cmd->add_flag("-q,--quiet", options->style.quiet, "Print nothing if the store is clean");
  cmd->add_flag("--json", options->style.json,
                "Print one JSON object per finding and repair, then one in all");
  cmd->add_option("STORE", options->positional, "File or block device (default: that of --store)")
      ->excludes(store);
  cmd->set_version_flag("-V,--version", version_text(), "Print the version");
  cmd->footer(
      "Example:\n  lcfs fsck -n --data /srv/images.lcfs\n  lcfs fsck -y --heal-from debian.tar "
      "/srv/images.lcfs");
  auto* progress = cmd->get_option("-C");
  cmd->callback([options, progress, &context] {
    options->progress = progress->count() != 0;
    context.exit = run_fsck(*options, context);
  });
}

}  // namespace lcfs::cli
