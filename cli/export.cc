// SPDX-License-Identifier: Apache-2.0
// lcfs export: writes images and layers to an archive.
#include "exporter/export.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/fd.h"
#include "cli/commands.h"
#include "cli/epoch.h"
#include "cli/fd_stream.h"
#include "cli/json.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/store_arg.h"
#include "cli/units.h"
#include "importer/archive.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{}, output = "-", format = "oci", compress = "original", progress = "auto";
  std::vector<std::string> names{};
  bool quiet = false, json = false;
};

class StreamSink final : public exporter::ByteSink {
 public:
  explicit StreamSink(std::ostream& out) : out_(out) {}
  Status write(std::span<std::byte const> bytes) override {
    out_.write(reinterpret_cast<char const*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    if (out_) return Ok{};
    auto const* fd = dynamic_cast<FdStream*>(&out_);
    return Error::io("cannot write", fd != nullptr ? fd->error() : 0).in("standard output");
  }

 private:
  std::ostream& out_;
};

void print_report(Options const& options, exporter::ExportReport const& report, Context& context) {
  // With the archive on standard output, the report goes to standard error.
  auto& out = options.output == "-" ? context.io.err : context.io.out;
  if (options.json) {
    Json object;
    object["images"] = Json::array();
    for (auto const& image : report.images) {
      Json line;
      line["names"] = image.names;
      line["id"] = digest_text(image.config_digest);
      line["manifest"] = digest_or_null(options.format == "oci", image.manifest_digest);
      line["layers"] = Json::array();
      for (auto const& layer : image.layers)
        line["layers"].push_back({{"id", layer.name},
                                  {"diff_id", digest_text(layer.diff_id)},
                                  {"digest", digest_text(layer.digest)},
                                  {"bytes", layer.plain_bytes},
                                  {"size", layer.size},
                                  {"identical", exporter::identical_text(layer.identical)}});
      object["images"].push_back(std::move(line));
    }
    object["bytes"] = report.bytes;
    object["seconds"] = report.seconds;
    print_json(out, object);
    return;
  }
  if (options.quiet) return;
  for (auto const& image : report.images) {
    out << fmt::format(
        "{}  {}\n",
        image.names.empty() ? "-" : escape(fmt::format("{}", fmt::join(image.names, ", "))),
        digest_text(image.config_digest));
    Table table({"LAYER", "DIGEST", "BYTES", "SIZE", "IDENTICAL"}, "llrrl");
    for (auto const& layer : image.layers)
      table.add({layer.name, digest_hex(layer.digest).substr(0, 12), size_text(layer.plain_bytes),
                 size_text(layer.size), exporter::identical_text(layer.identical)});
    table.print(out);
  }
}

// A pipe or a device is written to directly.
bool is_stream(std::string const& path) {
  struct stat st {};
  return stat(path.c_str(), &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

Status run_export(Options const& options, Context& context) {
  bool const to_stdout = options.output == "-";
  if (to_stdout && context.io.out_fd >= 0 && isatty(context.io.out_fd) == 1)
    return Error::invalid("standard output is a terminal; name a file with -o, or redirect it");
  LCFS_TRY_ASSIGN(auto const latest, source_date_epoch(context.io));
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadOnly));
  StopOnSignal const signals(context.io);
  Progress progress(context.io, options.quiet                 ? Progress::Mode::kNone
                                : options.progress == "plain" ? Progress::Mode::kPlain
                                : options.progress == "none"  ? Progress::Mode::kNone
                                                              : Progress::Mode::kAuto);
  exporter::ExportOptions how;
  how.names = options.names;
  how.format = options.format == "docker" ? exporter::Format::kDocker : exporter::Format::kOci;
  how.compress = options.compress == "gzip"   ? exporter::Compress::kGzip
                 : options.compress == "zstd" ? exporter::Compress::kZstd
                 : options.compress == "none" ? exporter::Compress::kNone
                                              : exporter::Compress::kOriginal;
  how.latest = latest;
  how.stop = &signals.stop();
  how.progress = [&progress](std::uint64_t done, std::uint64_t total, std::string const& layer) {
    progress.bytes(done, total, layer);
  };
  how.skipped = [&context](std::string const& layer, std::string const& path) {
    warn(context, "export",
         fmt::format("{}: {}: left out: a tar cannot hold sockets", layer, escape(path)));
  };
  if (auto const directory = context.io.env ? context.io.env("TMPDIR") : std::nullopt;
      directory && !directory->empty())
    how.spool = *directory;
  Result<exporter::ExportReport> report = Error{};
  if (to_stdout) {
    StreamSink sink(context.io.out);
    how.stream = &sink;
    report = exporter::export_archive(*store, how);
  } else if (is_stream(options.output)) {
    Fd const fd(::open(options.output.c_str(), O_WRONLY | O_CLOEXEC));
    if (fd.get() < 0) return Error::io("cannot open", errno).in(options.output);
    FdStream out(fd.get(), &signals.stop());
    StreamSink sink(out);
    how.stream = &sink;
    report = exporter::export_archive(*store, how);
    if (report && !out.flush()) report = Error::io("cannot write", out.error()).in(options.output);
  } else {
    how.path = options.output;
    report = exporter::export_archive(*store, how);
  }
  if (!report) return std::move(report).error();
  progress.finish();
  print_report(options, *report, context);
  return Ok{};
}

}  // namespace

void add_export(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("export", "Write images or layers to an archive");
  add_store_option(*cmd, options->store);
  cmd->add_option("-o,--output", options->output,
                  "Output file; a directory or NAME/: an OCI layout (default: -, stdout)")
      ->type_name("FILE");
  cmd->add_option("--format", options->format,
                  "oci (an oci-archive, default) or docker (a docker-archive)")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"oci", "docker"}));
  cmd->add_option("--compress", options->compress,
                  "original (as imported, default), gzip, zstd or none")
      ->type_name("HOW")
      ->check(CLI::IsMember({"original", "gzip", "zstd", "none"}));
  cmd->add_flag("--json", options->json, "Print the report as one JSON object");
  cmd->add_flag("-q,--quiet", options->quiet, "Print neither report nor progress");
  cmd->add_option("--progress", options->progress,
                  "auto (a bar on a terminal, default), plain or none")
      ->type_name("WHEN")
      ->check(CLI::IsMember({"auto", "plain", "none"}));
  cmd->add_option("IMAGE", options->names, "Images or layers: name, digest or unique prefix")
      ->required();
  cmd->footer("Example:\n  lcfs export -o debian.tar debian:12");
  cmd->callback([options, &context] {
    if (auto done = run_export(*options, context); !done)
      context.exit = fail(context, "export", done.error());
  });
}

}  // namespace lcfs::cli
