// SPDX-License-Identifier: Apache-2.0
#include "mount/pseudo.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "mount/mount.h"
#include "mount/ops.h"
#include "mount/report.h"

namespace lcfs::mount {
namespace {

struct Name {
  char const* name;
  Report report;
  bool of_mount_only;
};
constexpr std::array kNames = {Name{"stats.prom", Report::kStatsPrometheus, false},
                               Name{"stats.json", Report::kStatsJson, false},
                               Name{"space.json", Report::kSpace, false},
                               Name{"layers.json", Report::kLayers, true}};

void reply_nothing(fuse_req_t req) {
  fuse_reply_err(req, ENOENT);
}  // not cached by the kernel, because the name can appear

}  // namespace

Pseudo::FilePtr Pseudo::find(NodeId id) const {
  Lock lock(mu_);
  auto const it = files_.find(id);
  return it == files_.end() ? nullptr : it->second;
}

NodeId Pseudo::add(File file) {
  NodeId const id = next_.fetch_add(1) & kMaxInode;
  Lock lock(mu_);
  files_[id] = std::make_shared<File const>(std::move(file));
  return id;
}

struct stat Pseudo::stat_of(NodeId id, File const& file) const {
  struct stat st = mount_.stat_of_root();
  st.st_ino = id;
  st.st_mode = file.directory ? S_IFDIR | 0555 : S_IFREG | 0444;
  st.st_nlink = file.directory ? 2 : 1;
  st.st_size = static_cast<off_t>(file.text.size());
  st.st_blocks = static_cast<blkcnt_t>((file.text.size() + 511) / 512);
  st.st_atim = st.st_mtim =
      st.st_ctim = {file.made_ns / 1'000'000'000, file.made_ns % 1'000'000'000};
  return st;
}

void Pseudo::reply_new(fuse_req_t req, File file) {
  file.made_ns = now_ns();
  NodeId const id = add(std::move(file));
  auto const made = find(id);
  fuse_entry_param entry{};
  entry.ino = id;
  entry.attr = stat_of(id, *made);
  entry.attr_timeout = kForever;  // this file never changes; the next lookup creates another
  mount_.lookups.add(id);
  if (fuse_reply_entry(req, &entry) != 0) mount_.forget(id, 1);
}

void Pseudo::lookup(fuse_req_t req, NodeId parent, char const* name) {
  bool const dot = std::strcmp(name, ".") == 0;
  if (parent == kRootNode) {
    if (dot || std::strcmp(name, "..") == 0) {
      fuse_entry_param entry{};
      entry.ino = kRootNode;
      entry.attr = mount_.stat_of_root();
      entry.attr_timeout = entry.entry_timeout = kForever;
      fuse_reply_entry(req, &entry);
      return;
    }
    if (std::strcmp(name, kName) == 0 && mount_.options.pseudo)
      return reply_new(req, {.directory = true});
    auto const served = mount_.layers.by_name(name);
    if (!served) {
      if (served.error().to_errno() != ENOENT) return reply_error(req, mount_, served.error());
      fuse_entry_param entry{};
      entry.entry_timeout = kForever;  // until a layer of that name appears: Mount::name_changed()
      fuse_reply_entry(req, &entry);
      return;
    }
    auto const root = (*served)->layer->getattr((*served)->root);
    if (!root) return reply_error(req, mount_, root.error());
    return reply_entry(req, mount_, **served, *root);
  }
  auto const directory = find(parent);
  if (!directory || !directory->directory) return reply_nothing(req);
  if (dot) return reply_new(req, *directory);
  for (auto const& known : kNames) {
    if (std::strcmp(name, known.name) != 0 || (known.of_mount_only && directory->served)) continue;
    auto text = make_report(mount_, known.report, directory->served.get(), false);
    if (!text) return reply_error(req, mount_, text.error());
    return reply_new(req, {.served = directory->served, .text = *std::move(text)});
  }
  reply_nothing(req);
}

void Pseudo::lookup_in_layer(fuse_req_t req, ServedPtr const& served) {
  if (!mount_.options.pseudo) {
    fuse_entry_param entry{};
    entry.entry_timeout = kForever;
    fuse_reply_entry(req, &entry);
    return;
  }
  reply_new(req, {.directory = true, .served = served});
}

Result<struct stat> Pseudo::getattr(NodeId id) const {
  if (id == kRootNode) return mount_.stat_of_root();
  auto const file = find(id);
  if (!file) return fs_error(ESTALE);
  return stat_of(id, *file);
}

void Pseudo::read(fuse_req_t req, NodeId id, std::size_t size, off_t offset) {
  auto const file = find(id);
  if (!file) return static_cast<void>(fuse_reply_err(req, ESTALE));
  auto const at = std::min(static_cast<std::size_t>(std::max<off_t>(offset, 0)), file->text.size());
  fuse_reply_buf(req, file->text.data() + at, std::min(size, file->text.size() - at));
}

// The root lists the layers in order of their ids; the offset after a layer is 2 + its id.
void Pseudo::readdir(fuse_req_t req, NodeId id, std::size_t size, std::uint64_t offset, bool plus) {
  std::string buffer(size, '\0');
  std::size_t used = 0;
  auto const add = [&](std::string const& name, ino_t ino, std::uint64_t next) {
    // Plus: node id 0 means that the entry has no attributes; the kernel looks the name up when it
    // needs them.
    fuse_entry_param entry{};
    entry.attr.st_ino = ino;
    entry.attr.st_mode = S_IFDIR;
    auto const left = std::span{buffer}.subspan(used);
    std::size_t const need = plus
                                 ? fuse_add_direntry_plus(req, nullptr, 0, name.c_str(), &entry, 0)
                                 : fuse_add_direntry(req, nullptr, 0, name.c_str(), &entry.attr, 0);
    if (need > left.size()) return false;
    if (plus) {
      fuse_add_direntry_plus(req, left.data(), left.size(), name.c_str(), &entry,
                             static_cast<off_t>(next));
    } else {
      fuse_add_direntry(req, left.data(), left.size(), name.c_str(), &entry.attr,
                        static_cast<off_t>(next));
    }
    used += need;
    return true;
  };
  bool room = offset >= 1 || add(".", id, 1);
  room = room && (offset >= 2 || add("..", kRootNode, 2));
  if (room && id == kRootNode) {
    LayerId const from = offset <= 2 ? 1 : offset - 2 + 1;
    auto const walked = mount_.store.for_each_layer(
        [&](LayerInfo const& layer) {
          if (layer.anonymous) return true;
          return add(layer.name, make_node(slot_of(layer.serve_id), layer.root_inode),
                     layer.id + 2);
        },
        from);
    if (!walked) return reply_error(req, mount_, walked.error());
  }
  fuse_reply_buf(req, buffer.data(), used);
}

void Pseudo::forget(NodeId id) {
  FilePtr last;  // destroyed outside the lock
  Lock lock(mu_);
  auto const it = files_.find(id);
  if (it == files_.end()) return;
  last = std::move(it->second);
  files_.erase(it);
}

}  // namespace lcfs::mount
