// SPDX-License-Identifier: Apache-2.0
// lcfs fsck: checks a store, and mends it.  Exit codes are those of fsck(8).
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/fsck_print.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/store_arg.h"
#include "device/checks.h"
#include "device/lock.h"
#include "fsck/check.h"
#include "fsck/heal.h"
#include "fsck/repair.h"
#include "importer/offer.h"
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

// "mounted by pid 5 at /mnt, /srv"
Error mounted(std::string const& path, std::optional<pid_t> pid) {
  std::vector<std::string> places;
  if (auto const store = mount::store_identity(path))
    if (auto const mounts = mount::mounts_of(*store))
      for (auto const& entry : *mounts) places.push_back(entry.directory);
  return Error{Errc::kBusy,
               fmt::format("mounted by {}{}{}; lcfs umount ends that, and lcfs fsck -n only looks",
                           pid ? fmt::format("pid {}", *pid) : "another process",
                           places.empty() ? "" : " at ", fmt::join(places, ", ")),
               0, path, kNoOffset};
}

// Repairs are no good on a store that is mounted.
Status refuse_mounted(Context const& context, std::string const& path) {
  if (is_served(context, path)) return mounted(path, getpid());
  auto const store = mount::store_identity(path);
  auto const mounts = store ? mount::mounts_of(*store) : std::vector<mount::MountEntry>{};
  if (!mounts || mounts->empty()) return {};
  Fd const file = open_fd(path, O_RDONLY | O_NONBLOCK);
  return mounted(path, file ? lock_holder(file.get()) : std::nullopt);
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
    // So that what is checked is what is there.  A store that can't be written is checked as it is
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
    warn(context, "fsck", device.error().text() + "; it is read all the same");
    device = open_device(path, Access::kReadOnlyNoLock);
  }
  if (!device) return std::move(device).error();
  subject.device = *std::move(device);
  return subject;
}

// The bar of -C, or lines for the program that called us: "pass done all what" on a descriptor of
// its own, as e2fsck writes them.
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
          ::write(options_.progress_fd, line.data(), line.size());  // nobody need read it
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
      context, Error{Errc::kBusy, "the store was in use, so what was found may be its changes only",
                     0, path, kNoOffset});
}

// Answers for one run: those of the options, or of whoever sits at the terminal.
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
    // To lose a file's sound part as well is never meant by a mere yes to all.
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
  // Also where there is nothing to heal a wrong name is told.
  if (options.heal_from != "-" && ::access(options.heal_from.c_str(), R_OK) != 0)
    return Error{errno == ENOENT ? Errc::kNotFound : Errc::kIo, "cannot open", errno,
                 options.heal_from, kNoOffset};
  if (healer->damaged() == 0) return std::uint64_t{0};
  LCFS_TRY(importer::offer_archive(*healer, options.heal_from, context.io.in_fd));
  LCFS_TRY(healer->finish());
  if (healer->healed() == 0)
    warn(context, "fsck",
         fmt::format("{}: has none of the {} damaged blocks", escape(options.heal_from),
                     healer->damaged()));
  return healer->healed();
}

int mend(Options const& options, Context& context, std::string const& path) {
  auto const& io = context.io;
  if (auto const free = refuse_mounted(context, path); !free)
    return operational(context, free.error());
  auto const device = open_device(path, Access::kReadWrite);
  if (!device) return operational(context, device.error());
  if (!options.preen && !options.yes &&
      (isatty(io.in_fd) == 0 || io.out_fd < 0 || isatty(io.out_fd) == 0)) {
    fail(context, "fsck",
         Error{Errc::kInvalid,
               "a terminal is needed to ask what to repair; -n, -p or -y say it before", 0, path});
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
    warn(context, "fsck", path + ": what is left is not for -p; run lcfs fsck by hand, without it");
  return (changed ? int{kFsckCorrected} : int{kFsckClean}) |
         (done->after.clean() ? int{kFsckClean} : int{kFsckDamage});
}

int run_fsck(Options& options, Context& context) {
  auto const path =
      options.positional.empty() ? store_path(context.io, options.store) : options.positional;
  options.preen = options.preen || options.automatic;
  if (int{options.no_write} + int{options.preen} + int{options.yes} > 1) {
    context.io.err
        << "lcfs: fsck: only one of -n, -p (or -a) and -y can be given; see lcfs fsck --help\n";
    return kFsckUsage;
  }
  if (options.no_write && (options.remove_unreadable || !options.heal_from.empty())) {
    context.io.err << "lcfs: fsck: -n writes nothing; see lcfs fsck --help\n";
    return kFsckUsage;
  }
  if (options.preen && options.remove_unreadable) {
    context.io.err << "lcfs: fsck: -p only makes repairs that lose nothing; --remove-unreadable "
                      "needs -y, or an answer; see lcfs fsck --help\n";
    return kFsckUsage;
  }
  options.style.data =
      options.style.data || options.remove_unreadable || !options.heal_from.empty();
  return options.no_write ? check_only(options, context, path) : mend(options, context, path);
}

}  // namespace

void add_fsck(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("fsck", "Check and mend a store");
  auto* store = add_store_option(*cmd, options->store);
  cmd->add_flag("-n", options->no_write, "Only report, write nothing");
  cmd->add_flag("-p", options->preen,
                "Without questions, but only repairs that can't lose anything");
  cmd->add_flag("-a", options->automatic, "The same as -p");
  cmd->add_flag("-y", options->yes, "Yes to all repairs");
  cmd->add_flag(
      "-f", options->force,
      "Walk the whole tree of each layer, also where what it changed of its parent would do");
  cmd->add_flag("-v,--verbose", options->style.verbose,
                "Print what was read, and where the blocks are");
  cmd->add_option("-C", options->progress_fd,
                  "Show progress; FD other than 0: as lines for a program, on that descriptor")
      ->type_name("FD");
  cmd->add_flag("--data", options->style.data, "Check the checksums of all file data too");
  cmd->add_option("--heal-from", options->heal_from,
                  "Look in this archive (a file, a directory, or - for standard input) for data "
                  "that is damaged")
      ->type_name("ARCHIVE");
  cmd->add_flag("--remove-unreadable", options->remove_unreadable,
                "Remove files whose data can't be read");
  cmd->add_flag("--search", options->search,
                "If no store tree can be read, look for an older one all over the store");
  cmd->add_flag("-q,--quiet", options->style.quiet, "Print nothing if the store is clean");
  cmd->add_flag("--json", options->style.json,
                "Print one JSON object a finding and repair, then one for the store");
  cmd->add_option("STORE", options->positional,
                  "File or block device (default: the store that --store would mean)")
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
