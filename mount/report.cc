// SPDX-License-Identifier: Apache-2.0
#include "mount/report.h"

#include <dirent.h>
#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "mount/mount.h"

namespace lcfs::mount {
namespace {

using Json = nlohmann::ordered_json;

// The latency that the given part of all requests stayed below: the upper bound of a bucket, in
// microseconds.
std::uint64_t quantile(Counters::Snapshot::One const& one, double part) {
  auto const want = static_cast<std::uint64_t>(static_cast<double>(one.count) * part);
  std::uint64_t seen = 0;
  for (std::size_t b = 0; b < kBuckets; ++b) {
    seen += one.buckets[b];
    if (seen > want || seen == one.count) return std::uint64_t{1} << b;
  }
  return 0;
}

struct Types {
  std::uint64_t regular = 0, directories = 0, symlinks = 0, others = 0;
};

// The number of names of each type in a layer.  Cost: a walk of its directories, because no counter
// is kept of them.
Result<Types> count_types(Layer& layer) {
  Types types;
  types.directories = 1;
  std::vector<Inode> todo{layer.root()};
  while (!todo.empty()) {
    Inode const directory = todo.back();
    todo.pop_back();
    auto const walked = layer.readdir(directory, 0, [&](DirEntry const& entry) {
      switch (entry.type) {
        case DT_REG: ++types.regular; break;
        case DT_LNK: ++types.symlinks; break;
        case DT_DIR:
          ++types.directories;
          todo.push_back(entry.inode);
          break;
        default: ++types.others;
      }
      return true;
    });
    if (!walked && walked.error().sys != ENOENT) return walked.error();
  }
  return types;
}

struct Numbers {
  std::string layer{};  // empty: the mount
  Counters::Snapshot counters{};
  LayerIo io{};
  LayerSpace space{};
  Types types{};
  Store::Stats store{};
  std::uint64_t nodes = 0, node_bytes = 0, layers = 0, errors = 0;
};

Result<Numbers> collect(Mount& mount, Served* served, bool walk, bool clear) {
  Numbers n;
  n.store = mount.store.stats();
  n.node_bytes = mount.lookups.bytes();
  n.errors = mount.errors.load();
  if (served == nullptr) {
    n.counters = mount.totals.take(clear);
    n.nodes = mount.lookups.size();
    mount.layers.for_each([&n](Served&) { ++n.layers; });
    return n;
  }
  n.layer = served->name();
  n.counters = served->counters().take(clear);
  n.nodes = served->known.load();
  n.io = mount.store.layer_io(served->layer->id());
  LCFS_TRY_ASSIGN(n.space, mount.store.layer_space(served->layer->id()));
  if (walk) {
    LCFS_TRY_ASSIGN(n.types, count_types(*served->layer));
  }
  return n;
}

std::string text_of(Numbers const& n) {
  std::string out =
      n.layer.empty() ? fmt::format("mount: {} layers in use, {} inodes known to the kernel\n",
                                    n.layers, n.nodes)
                      : fmt::format("layer {}: {} inodes known to the kernel\n", n.layer, n.nodes);
  out += fmt::format("{:<16} {:>10} {:>8} {:>10} {:>9} {:>9}\n", "OPERATION", "COUNT", "ERRORS",
                     "MEAN us", "p50 us <", "p99 us <");
  for (std::size_t i = 0; i < kOps; ++i) {
    auto const& one = n.counters.ops[i];
    if (one.count == 0) continue;
    out += fmt::format("{:<16} {:>10} {:>8} {:>10.1f} {:>9} {:>9}\n", op_name(static_cast<Op>(i)),
                       one.count, one.errors,
                       static_cast<double>(one.total_ns) / 1000 / static_cast<double>(one.count),
                       quantile(one, 0.5), quantile(one, 0.99));
  }
  out += fmt::format("read {} bytes, written {} bytes\n", n.counters.read_bytes,
                     n.counters.written_bytes);
  if (n.layer.empty()) {
    auto const& s = n.store;
    out += fmt::format(
        "node cache {} of {} bytes, {} hits, {} misses; lookup table {} bytes; dirty data {} "
        "bytes\n",
        s.cache_bytes, s.cache_limit, s.cache_hits, s.cache_misses, n.node_bytes, s.dirty_bytes);
    out += fmt::format("device: {} reads of {} bytes, {} writes of {} bytes, {} flushes\n",
                       s.device_reads, s.device_read_bytes, s.device_writes, s.device_written_bytes,
                       s.device_flushes);
    out += fmt::format("{} checkpoints, {:.1f} ms at most; {} checksum failures, {} errors\n",
                       s.checkpoints, static_cast<double>(s.checkpoint_max_ns) / 1e6,
                       s.checksum_failures, n.errors);
  } else {
    out += fmt::format("device: {} reads of {} bytes, {} writes of {} bytes\n", n.io.reads,
                       n.io.read_bytes, n.io.writes, n.io.written_bytes);
    out += fmt::format("space: {} blocks owned, {} reserved, {} referenced, quota {}\n",
                       n.space.own, n.space.promised, n.space.used, n.space.quota);
    out += fmt::format("inodes {}; names: {} files, {} directories, {} symlinks, {} others\n",
                       n.space.inodes, n.types.regular, n.types.directories, n.types.symlinks,
                       n.types.others);
  }
  return out;
}

Json layer_or_null(Numbers const& n) { return n.layer.empty() ? Json(nullptr) : Json(n.layer); }

// One line.
std::string line_of(Json const& json) { return json.dump() + '\n'; }

void put_space(Json& object, LayerSpace const& space) {
  object["own_bytes"] = space.own * kBlockSize;
  object["promised_bytes"] = space.promised * kBlockSize;
  object["reached_bytes"] = space.used * kBlockSize;
  object["quota_bytes"] = space.quota * kBlockSize;
  object["inodes"] = space.inodes;
}

Json operations_of(Counters::Snapshot const& counters) {
  Json operations = Json::object();
  for (std::size_t i = 0; i < kOps; ++i) {
    auto const& one = counters.ops[i];
    if (one.count == 0) continue;
    operations[std::string(op_name(static_cast<Op>(i)))] = {{"count", one.count},
                                                            {"errors", one.errors},
                                                            {"total_ns", one.total_ns},
                                                            {"buckets_us", one.buckets}};
  }
  return operations;
}

std::string json_of(Numbers const& n) {
  Json object{{"layer", layer_or_null(n)},
              {"operations", operations_of(n.counters)},
              {"read_bytes", n.counters.read_bytes},
              {"written_bytes", n.counters.written_bytes},
              {"known_inodes", n.nodes}};
  if (n.layer.empty()) {
    auto const& s = n.store;
    object.update({{"layers_in_use", n.layers},
                   {"errors", n.errors},
                   {"node_cache_bytes", s.cache_bytes},
                   {"node_cache_limit", s.cache_limit},
                   {"node_cache_hits", s.cache_hits},
                   {"node_cache_misses", s.cache_misses},
                   {"lookup_table_bytes", n.node_bytes},
                   {"dirty_bytes", s.dirty_bytes},
                   {"device_reads", s.device_reads},
                   {"device_read_bytes", s.device_read_bytes},
                   {"device_writes", s.device_writes},
                   {"device_written_bytes", s.device_written_bytes},
                   {"device_flushes", s.device_flushes},
                   {"checkpoints", s.checkpoints},
                   {"checkpoint_ns", s.checkpoint_ns},
                   {"checkpoint_max_ns", s.checkpoint_max_ns},
                   {"checksum_failures", s.checksum_failures}});
    return line_of(object);
  }
  object.update({{"device_reads", n.io.reads},
                 {"device_read_bytes", n.io.read_bytes},
                 {"device_writes", n.io.writes},
                 {"device_written_bytes", n.io.written_bytes}});
  put_space(object, n.space);
  object["names"] = {{"regular", n.types.regular},
                     {"directory", n.types.directories},
                     {"symlink", n.types.symlinks},
                     {"other", n.types.others}};
  return line_of(object);
}

std::string prometheus_of(Numbers const& n) {
  std::string const label = n.layer.empty() ? "" : fmt::format("layer=\"{}\"", n.layer);
  std::string const comma = label.empty() ? "" : ",";
  std::string const braces = label.empty() ? "" : fmt::format("{{{}}}", label);
  std::string const prefix = n.layer.empty() ? "lcfs_mount_" : "lcfs_layer_";
  std::string out;
  auto const head = [&](std::string_view name, std::string_view type, std::string_view help) {
    out += fmt::format("# HELP {0}{1} {2}\n# TYPE {0}{1} {3}\n", prefix, name, help, type);
  };
  auto const one = [&](std::string_view name, std::string_view type, std::string_view help,
                       std::uint64_t value) {
    head(name, type, help);
    out += fmt::format("{}{}{} {}\n", prefix, name, braces, value);
  };
  head("operation_seconds", "histogram", "Duration of requests.");
  for (std::size_t i = 0; i < kOps; ++i) {
    auto const& op = n.counters.ops[i];
    if (op.count == 0) continue;
    auto const name = op_name(static_cast<Op>(i));
    std::uint64_t sum = 0;
    for (std::size_t b = 0; b + 1 < kBuckets; ++b) {
      sum += op.buckets[b];
      out += fmt::format("{}operation_seconds_bucket{{{}{}op=\"{}\",le=\"{:.6f}\"}} {}\n", prefix,
                         label, comma, name, static_cast<double>(std::uint64_t{1} << b) / 1e6, sum);
    }
    out += fmt::format(
        "{0}operation_seconds_bucket{{{1}{2}op=\"{3}\",le=\"+Inf\"}} "
        "{4}\n{0}operation_seconds_sum{{{1}{2}op=\"{3}\"}} {5:.9f}\n"
        "{0}operation_seconds_count{{{1}{2}op=\"{3}\"}} {4}\n",
        prefix, label, comma, name, op.count, static_cast<double>(op.total_ns) / 1e9);
  }
  head("operation_errors_total", "counter", "Requests answered with an error.");
  for (std::size_t i = 0; i < kOps; ++i) {
    auto const& op = n.counters.ops[i];
    if (op.count != 0) {
      out += fmt::format("{}operation_errors_total{{{}{}op=\"{}\"}} {}\n", prefix, label, comma,
                         op_name(static_cast<Op>(i)), op.errors);
    }
  }
  one("read_bytes_total", "counter", "Bytes that programs read through the server.",
      n.counters.read_bytes);
  one("written_bytes_total", "counter", "Bytes that programs wrote.", n.counters.written_bytes);
  one("known_inodes", "gauge", "Inodes that the kernel has cached.", n.nodes);
  if (n.layer.empty()) {
    auto const& s = n.store;
    one("node_cache_bytes", "gauge", "Memory of cached clean metadata.", s.cache_bytes);
    one("node_cache_limit_bytes", "gauge", "Limit of node_cache_bytes.", s.cache_limit);
    one("node_cache_hits_total", "counter", "Metadata nodes found in memory.", s.cache_hits);
    one("node_cache_misses_total", "counter", "Metadata nodes read from the device.",
        s.cache_misses);
    one("dirty_bytes", "gauge", "File data not written yet.", s.dirty_bytes);
    one("device_reads_total", "counter", "Reads of the device.", s.device_reads);
    one("device_read_bytes_total", "counter", "Bytes read from the device.", s.device_read_bytes);
    one("device_writes_total", "counter", "Writes to the device.", s.device_writes);
    one("device_written_bytes_total", "counter", "Bytes written to the device.",
        s.device_written_bytes);
    one("device_flushes_total", "counter", "Flushes of the device.", s.device_flushes);
    one("checkpoints_total", "counter", "Checkpoints.", s.checkpoints);
    one("checksum_failures_total", "counter", "Blocks whose checksum did not match.",
        s.checksum_failures);
    one("errors_total", "counter", "Requests that failed because of the device.", n.errors);
  } else {
    one("device_read_bytes_total", "counter", "Bytes read from the device.", n.io.read_bytes);
    one("device_written_bytes_total", "counter", "Bytes written to the device.",
        n.io.written_bytes);
    one("own_bytes", "gauge", "Space that the layer owns.", n.space.own * kBlockSize);
    one("inodes", "gauge", "Inodes of the layer.", n.space.inodes);
  }
  return out;
}

std::string space_of_layer(Numbers const& n) {
  Json object{{"layer", n.layer}};
  put_space(object, n.space);
  return line_of(object);
}

std::string space_of_store(Store const& store) {
  auto const s = store.space();
  return line_of({{"total_bytes", s.total * kBlockSize},
                  {"reserved_bytes", s.reserved * kBlockSize},
                  {"store_tree_bytes", s.store_tree * kBlockSize},
                  {"layers_bytes", s.layers * kBlockSize},
                  {"history_bytes", s.history * kBlockSize},
                  {"pending_bytes", s.pending * kBlockSize},
                  {"free_bytes", s.free * kBlockSize},
                  {"promised_bytes", s.promised * kBlockSize}});
}

Result<std::string> layers_of(Store const& store) {
  Json layers = Json::array();
  LCFS_TRY(store.for_each_layer([&layers](LayerInfo const& layer) {
    auto const sizes = sizes_of(layer);
    layers.push_back({{"name", layer.name},
                      {"id", layer.id},
                      {"parent", layer.parent},
                      {"state", layer.state == LayerState::kOpen ? "open" : "frozen"},
                      {"own_bytes", sizes.own * kBlockSize},
                      {"inherited_bytes", sizes.inherited * kBlockSize},
                      {"inodes", layer.inodes}});
    return true;
  }));
  return line_of(layers);
}

}  // namespace

Result<std::string> make_report(Mount& mount, Report what, Served* served, bool clear) {
  if (what == Report::kLayers) return layers_of(mount.store);
  if (what == Report::kSpace && served == nullptr) return space_of_store(mount.store);
  bool const walk = served != nullptr && (what == Report::kStatsText || what == Report::kStatsJson);
  LCFS_TRY_ASSIGN(auto const numbers, collect(mount, served, walk, clear));
  switch (what) {
    case Report::kStatsText: return text_of(numbers);
    case Report::kStatsJson: return json_of(numbers);
    case Report::kStatsPrometheus: return prometheus_of(numbers);
    default: return space_of_layer(numbers);
  }
}

}  // namespace lcfs::mount
