// SPDX-License-Identifier: Apache-2.0
#include "mount/report.h"

#include <dirent.h>
#include <fmt/format.h>

#include <array>
#include <vector>

#include "mount/mount.h"

namespace lcfs::mount {
namespace {

// The bucket's upper bound below which a part of all requests stayed, in microseconds.
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

// How many names of each type a layer has: a walk of its directories, for nothing counts them as
// they change.
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
    out += fmt::format("space: {} blocks owned, {} promised, {} reached, quota {}\n", n.space.own,
                       n.space.promised, n.space.used, n.space.quota);
    out += fmt::format("inodes {}; names: {} files, {} directories, {} symlinks, {} others\n",
                       n.space.inodes, n.types.regular, n.types.directories, n.types.symlinks,
                       n.types.others);
  }
  return out;
}

// Layer names need no escaping: Store::check_layer_name().
std::string json_of(Numbers const& n) {
  std::string out =
      n.layer.empty() ? std::string("{\"layer\":null") : fmt::format("{{\"layer\":\"{}\"", n.layer);
  out += ",\"operations\":{";
  bool first = true;
  for (std::size_t i = 0; i < kOps; ++i) {
    auto const& one = n.counters.ops[i];
    if (one.count == 0) continue;
    out += fmt::format("{}\"{}\":{{\"count\":{},\"errors\":{},\"total_ns\":{},\"buckets_us\":[",
                       first ? "" : ",", op_name(static_cast<Op>(i)), one.count, one.errors,
                       one.total_ns);
    for (std::size_t b = 0; b < kBuckets; ++b)
      out += fmt::format("{}{}", b == 0 ? "" : ",", one.buckets[b]);
    out += "]}";
    first = false;
  }
  out += fmt::format("}},\"read_bytes\":{},\"written_bytes\":{},\"known_inodes\":{}",
                     n.counters.read_bytes, n.counters.written_bytes, n.nodes);
  if (n.layer.empty()) {
    auto const& s = n.store;
    out += fmt::format(
        ",\"layers_in_use\":{},\"errors\":{},\"node_cache_bytes\":{},\"node_cache_limit\":{},"
        "\"node_cache_hits\":{},"
        "\"node_cache_misses\":{},\"lookup_table_bytes\":{},\"dirty_bytes\":{},\"device_reads\":{},"
        "\"device_read_bytes\":{},"
        "\"device_writes\":{},\"device_written_bytes\":{},\"device_flushes\":{},\"checkpoints\":{},"
        "\"checkpoint_ns\":{},"
        "\"checkpoint_max_ns\":{},\"checksum_failures\":{}",
        n.layers, n.errors, s.cache_bytes, s.cache_limit, s.cache_hits, s.cache_misses,
        n.node_bytes, s.dirty_bytes, s.device_reads, s.device_read_bytes, s.device_writes,
        s.device_written_bytes, s.device_flushes, s.checkpoints, s.checkpoint_ns,
        s.checkpoint_max_ns, s.checksum_failures);
  } else {
    out += fmt::format(
        ",\"device_reads\":{},\"device_read_bytes\":{},\"device_writes\":{},\"device_written_"
        "bytes\":{},\"own_bytes\":{},"
        "\"promised_bytes\":{},\"reached_bytes\":{},\"quota_bytes\":{},\"inodes\":{},\"names\":{{"
        "\"regular\":{},"
        "\"directory\":{},\"symlink\":{},\"other\":{}}}",
        n.io.reads, n.io.read_bytes, n.io.writes, n.io.written_bytes, n.space.own * kBlockSize,
        n.space.promised * kBlockSize, n.space.used * kBlockSize, n.space.quota * kBlockSize,
        n.space.inodes, n.types.regular, n.types.directories, n.types.symlinks, n.types.others);
  }
  return out + "}\n";
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
  head("operation_seconds", "histogram", "Time that requests took.");
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
  one("read_bytes_total", "counter", "Bytes that clients read through the server.",
      n.counters.read_bytes);
  one("written_bytes_total", "counter", "Bytes that clients wrote.", n.counters.written_bytes);
  one("known_inodes", "gauge", "Inodes that the kernel has cached.", n.nodes);
  if (n.layer.empty()) {
    auto const& s = n.store;
    one("node_cache_bytes", "gauge", "Clean tree nodes in memory.", s.cache_bytes);
    one("node_cache_limit_bytes", "gauge", "Most of them.", s.cache_limit);
    one("node_cache_hits_total", "counter", "Nodes found in memory.", s.cache_hits);
    one("node_cache_misses_total", "counter", "Nodes read from the device.", s.cache_misses);
    one("dirty_bytes", "gauge", "File data that has no place yet.", s.dirty_bytes);
    one("device_reads_total", "counter", "Reads of the device.", s.device_reads);
    one("device_read_bytes_total", "counter", "Bytes read from the device.", s.device_read_bytes);
    one("device_writes_total", "counter", "Writes to the device.", s.device_writes);
    one("device_written_bytes_total", "counter", "Bytes written to the device.",
        s.device_written_bytes);
    one("device_flushes_total", "counter", "Flushes of the device.", s.device_flushes);
    one("checkpoints_total", "counter", "Checkpoints.", s.checkpoints);
    one("checksum_failures_total", "counter", "Blocks whose checksum did not match.",
        s.checksum_failures);
    one("errors_total", "counter", "Requests that failed for the device's sake.", n.errors);
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
  return fmt::format(
      "{{\"layer\":\"{}\",\"own_bytes\":{},\"promised_bytes\":{},\"reached_bytes\":{},\"quota_"
      "bytes\":{},\"inodes\":{}}}\n",
      n.layer, n.space.own * kBlockSize, n.space.promised * kBlockSize, n.space.used * kBlockSize,
      n.space.quota * kBlockSize, n.space.inodes);
}

std::string space_of_store(Store const& store) {
  auto const s = store.space();
  return fmt::format(
      "{{\"total_bytes\":{},\"reserved_bytes\":{},\"store_tree_bytes\":{},\"layers_bytes\":{},"
      "\"history_bytes\":{},\"pending_bytes\":{},\"free_bytes\":{},"
      "\"promised_bytes\":{}}}\n",
      s.total * kBlockSize, s.reserved * kBlockSize, s.store_tree * kBlockSize,
      s.layers * kBlockSize, s.history * kBlockSize, s.pending * kBlockSize, s.free * kBlockSize,
      s.promised * kBlockSize);
}

Result<std::string> layers_of(Store const& store) {
  std::string out = "[";
  LCFS_TRY(store.for_each_layer([&out](LayerInfo const& layer) {
    auto const sizes = sizes_of(layer);
    out += fmt::format(
        "{}{{\"name\":\"{}\",\"id\":{},\"parent\":{},\"state\":\"{}\",\"own_bytes\":{},\"inherited_"
        "bytes\":{},\"inodes\":{}}}",
        out.size() == 1 ? "" : ",\n", layer.name, layer.id, layer.parent,
        layer.state == LayerState::kOpen ? "open" : "frozen", sizes.own * kBlockSize,
        sizes.inherited * kBlockSize, layer.inodes);
    return true;
  }));
  return out + "]\n";
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
