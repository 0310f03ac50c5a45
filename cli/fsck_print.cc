// SPDX-License-Identifier: Apache-2.0
#include "cli/fsck_print.h"

#include <fmt/format.h>

#include "cli/json.h"
#include "cli/print.h"

namespace lcfs::cli {
namespace {

char const* slot_text(fsck::Slot const& slot) {
  switch (slot.state) {
    case fsck::SlotState::kValid: return "valid";
    case fsck::SlotState::kEmpty: return "empty";
    case fsck::SlotState::kUnfinished: return "unfinished";
    case fsck::SlotState::kDamaged: break;
  }
  return "damaged";
}

// Whether the second finding is about the next block of the same file.
bool continues(fsck::Finding const& a, fsck::Finding const& b) {
  return a.code == fsck::Code::kData && b.code == a.code && b.layer == a.layer &&
         b.inode == a.inode && b.inode != 0 && b.offset == a.offset + kBlockSize;
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

Json summary_json(std::string const& path, fsck::Report const& report, bool changed,
                  std::uint64_t healed) {
  Json object;
  put_bytes(object, "store", path);
  object["clean"] = report.clean();
  object["changed"] = changed;
  object["healed_blocks"] = healed;
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
  object["history_bytes"] = counters.history * kBlockSize;
  object["free_bytes"] = counters.free * kBlockSize;
  object["nodes_read"] = counters.nodes_read;
  object["data_bytes_checked"] = counters.data_checked * kBlockSize;
  return object;
}

}  // namespace

void print_findings(FsckStyle const& style, fsck::Report const& report, Io const& io) {
  if (style.json) {
    for (auto const& finding : report.findings) print_json(io.out, finding_json(finding));
    return;
  }
  for (auto it = report.findings.begin(); it != report.findings.end();) {
    io.out << fmt::format("{}: {}: {}", it->severity == fsck::Severity::kError ? "error" : "note",
                          fsck::code_name(it->code), escape_controls(it->line()));
    auto last = it;
    while (last + 1 != report.findings.end() && continues(*last, *(last + 1))) ++last;
    if (last != it) io.out << fmt::format("; the same applies to the next {} blocks", last - it);
    io.out << '\n';
    it = last + 1;
  }
  if (report.left_out != 0)
    io.out << fmt::format("{} more findings are not shown\n", report.left_out);
}

std::string proposal_text(fsck::Proposal const& proposal) {
  auto text = fmt::format(
      "{}: {}{}", fsck::step_name(proposal.step),
      proposal.layer_name.empty() ? "" : fmt::format("layer {}: ", escape(proposal.layer_name)),
      escape_controls(proposal.text));
  for (auto const& detail : proposal.details) text += "\n    " + escape_controls(detail);
  return text;
}

void print_repair(FsckStyle const& style, fsck::Proposal const& proposal, bool done, Io const& io) {
  if (!style.json) {
    io.out << (done ? "repair: " : "declined: ") << proposal_text(proposal) << '\n';
    return;
  }
  Json object;
  object["repair"] = fsck::step_name(proposal.step);
  object["done"] = done;
  object["layer"] = proposal.layer_name.empty() ? Json(nullptr) : Json(escape(proposal.layer_name));
  object["text"] = escape_controls(proposal.text);
  object["details"] = Json::array();
  for (auto const& detail : proposal.details) object["details"].push_back(escape_controls(detail));
  print_json(io.out, object);
}

void print_summary(FsckStyle const& style, std::string const& path, fsck::Report const& report,
                   bool changed, std::uint64_t healed, Io const& io) {
  if (style.json) return print_json(io.out, summary_json(path, report, changed, healed));
  if (style.quiet && report.clean() && !changed) return;
  auto const& c = report.counters;
  if (style.verbose)
    io.out << fmt::format(
        "blocks: {} reserved, {} store tree, {} metadata and {} data of layers, {} of removed "
        "layers, {} free\n"
        "read: {} nodes, {} data blocks\n",
        c.reserved, c.store_tree, c.layer_nodes, c.layer_data, c.dying, c.free, c.nodes_read,
        c.data_checked);
  if (healed != 0) io.out << fmt::format("{} data blocks healed\n", healed);
  io.out << fmt::format("{}: {}{}, {} layers, {} images, {} inodes, {}/{} blocks free{}\n",
                        escape(path), changed ? "changed; " : "",
                        report.clean() ? "clean" : fmt::format("{} errors", report.errors),
                        c.layers, c.images, c.inodes, c.free, c.total,
                        style.data ? "" : ", data not checked");
}

}  // namespace lcfs::cli
