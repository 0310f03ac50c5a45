// SPDX-License-Identifier: Apache-2.0
#include "mount/mount.h"

#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <utility>

#include "mount/log.h"
#include "mount/request.h"
#include "mount/session.h"

namespace lcfs::mount {
namespace {

// Bytes of dirty data after which writing begins, long before the limit at which writers have to
// wait.
constexpr std::uint64_t kWriteBack = 24ull << 20;

timespec timespec_of(Timestamp const& t) { return {t.sec, static_cast<long>(t.nsec)}; }

}  // namespace

Mount::Mount(Store& store_in, MountOptions const& options_in)
    : store(store_in),
      options(options_in),
      layers(store_in),
      pseudo(*this),
      root_changed_ns_(now_ns()) {
  store.set_events(this);
}

Mount::~Mount() {
  store.set_events(nullptr);
  layers.end();
}

Result<Node> Mount::node(NodeId id) {
  ServedPtr served =
      slot_in(id) == 0 ? (id == kRootNode ? only : nullptr) : layers.find(slot_in(id));
  if (!served) return fs_error(is_virtual(id) ? EPERM : ESTALE);
  Inode const inode = id == kRootNode ? served->root : inode_in(id);
  current_request().served = served;
  return Node{std::move(served), inode};
}

void Mount::wrote(std::uint64_t bytes) {
  if (written_.fetch_add(bytes, std::memory_order_relaxed) + bytes < kWriteBack) return;
  if (written_.exchange(0, std::memory_order_relaxed) >= kWriteBack && write_back) write_back();
}

struct stat Mount::stat_of(Served const& served, Attr const& attr) const {
  struct stat st {};
  auto const& info = attr.info;
  // To the kernel all layers of a mount are one device, and a file has the same number in every
  // layer that inherited it; the slot distinguishes them.
  st.st_ino = only ? attr.inode : make_node(served.slot, attr.inode);
  st.st_mode = info.mode;
  st.st_nlink = info.nlink;
  st.st_uid = info.uid;
  st.st_gid = info.gid;
  st.st_rdev = makedev(static_cast<unsigned>(info.rdev >> 32),
                       static_cast<unsigned>(info.rdev & 0xffffffff));
  st.st_size = static_cast<off_t>(info.size);
  st.st_blksize = kBlockSize;
  st.st_blocks = static_cast<blkcnt_t>(info.blocks * (kBlockSize / 512));
  // Data inlined in the tree has no blocks, but tar and others take a file without blocks for a
  // hole.
  if (S_ISREG(info.mode) && info.blocks == 0 && info.size <= kInlineMax)
    st.st_blocks = static_cast<blkcnt_t>((info.size + 511) / 512);
  st.st_atim = timespec_of(info.atime);
  st.st_mtim = timespec_of(info.mtime);
  st.st_ctim = timespec_of(info.ctime);
  return st;
}

struct stat Mount::stat_of_root() const {
  struct stat st {};
  st.st_ino = kRootNode;
  st.st_mode = S_IFDIR | 0755;
  st.st_nlink = 2;
  st.st_uid = geteuid();
  st.st_gid = getegid();
  st.st_blksize = kBlockSize;
  std::int64_t const ns = root_changed_ns_.load();
  st.st_atim = st.st_mtim = st.st_ctim = {ns / 1'000'000'000, ns % 1'000'000'000};
  return st;
}

void Mount::remember(Served& served, NodeId id) {
  if (lookups.add(id)) served.known.fetch_add(1);
}

void Mount::forget(NodeId id, std::uint64_t count) {
  if (id == kRootNode || !lookups.drop(id, count)) return;
  if (is_virtual(id)) return pseudo.forget(id);
  auto const served = layers.find(slot_in(id));
  if (!served) return;
  if (auto done = served->layer->forget(inode_in(id)); !done) errno_of(done.error(), served.get());
  served->known.fetch_sub(1);
  layers.release_if_unused(served);
}

int Mount::errno_of(Error const& error, Served const* served) {
  int const answer = error.to_errno();
  bool const usual = error.code == Errc::kFs || error.code == Errc::kNoSpace ||
                     error.code == Errc::kReadOnly || error.code == Errc::kNotFound ||
                     error.code == Errc::kExists || error.code == Errc::kInvalid;
  if (!usual) {
    errors.fetch_add(1, std::memory_order_relaxed);
    log(Level::kError, served == nullptr
                           ? error.text()
                           : fmt::format("layer {}: {}", served->name(), error.text()));
  }
  return answer;
}

// The kernel caches the root without a timeout, so changes must be announced.  Never call this from
// a thread that has a request: the kernel can hold the root's lock while it waits for the answer.
void Mount::name_changed(std::string_view name) {
  root_changed_ns_ = now_ns();
  if (session == nullptr || only) return;
  session->invalidate_name(kRootNode, name);
  session->invalidate_node(kRootNode);
}

void Mount::created(LayerInfo const& layer) { name_changed(layer.name); }

void Mount::removed(LayerInfo const& layer) {
  layers.removed(layer);
  name_changed(layer.name);
  if (layer_removed) layer_removed();
}

bool Mount::expire_removed() {
  bool again = false;
  if (session == nullptr || only) return again;
  layers.for_each([&](Served& served) {
    auto const known = served.known.load();
    if (!served.removed || known == 0) return;
    // The kernel forgets unused nodes by itself, which takes a while.  Those that are left are
    // invalidated once.
    if (std::exchange(served.known_before, known) != known) {
      again = true;
    } else if (std::exchange(served.expired_at, known) != known) {
      expire(served);
      again = true;
    }
  });
  return again;
}

void Mount::expire(Served& served) {
  constexpr std::size_t kMost = 10'000;  // nodes in one call
  for (NodeId const id : lookups.in_slot(served.slot, kMost)) {
    auto const names = served.layer->names_of(inode_in(id));
    if (!names) continue;
    for (auto const& [directory, name] : *names)
      session->invalidate_name(id_of(served, directory), name);
  }
}

void Mount::renamed(LayerInfo const& before, LayerInfo const& after) {
  layers.renamed(after);
  name_changed(before.name);
  name_changed(after.name);
}

void Mount::committed(LayerInfo const& frozen, LayerInfo const& running) {
  static_cast<void>(running);  // the same object, serve_id and name as before
  name_changed(frozen.name);
}

void Mount::changed(LayerInfo const& layer) { static_cast<void>(layer); }

}  // namespace lcfs::mount
