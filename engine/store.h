// SPDX-License-Identifier: Apache-2.0
// A store: layers and images on one device.  The engine's front door.
//
// Threads: any function from any thread, except that destroying a Store while others use it is the caller's mistake.
// Which lock protects what is said in engine/store_impl.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"
#include "engine/layer.h"
#include "engine/types.h"

namespace lcfs {

struct FormatOptions {
  std::uint64_t size = 0;           // bytes; 0: the device's size.  At least kMinStoreBlocks blocks
  std::string label{};              // at most 64 bytes of UTF-8
  std::optional<Uuid> uuid{};       // random if not given
};

struct OpenOptions {
  bool read_only = false;                          // nothing is ever written
  std::uint64_t node_cache = 16ull << 20;          // bytes of clean nodes kept
  std::uint64_t dirty_data = 128ull << 20;         // bytes of unflushed file data, whole store
  std::uint64_t dirty_data_file = 32ull << 20;     // the same for one file
  std::uint64_t dirty_nodes = 16ull << 20;         // bytes of unwritten nodes per layer before they are written early
  bool verify_data = true;                         // check data checksums on every read
  bool discard = true;                             // tell the device of freed space
};

// What a name means: exactly one of the two is not 0.
struct Target {
  LayerId layer = 0;
  ImageId image = 0;
};

struct StoreImpl;

class Store {
 public:
  // Writes an empty store over whatever is there: the caller has made sure.  Durable when it returns.
  static Status format(Device& device, FormatOptions const& options);
  // Errors: kInvalid "not an lcfs store", kCorrupt, kUnsupported, kReadOnly (features we may only read).
  static Result<std::unique_ptr<Store>> open(std::unique_ptr<Device> device, OpenOptions const& options);

  ~Store();  // like a crash: what is not checkpointed is gone; close() first

  // Checkpoints and ends all use.
  Status close();
  // Everything done before the call is durable when it returns.  Waiters share one checkpoint.
  Status checkpoint();

  [[nodiscard]] SuperblockInfo superblock() const;  // of the newest durable checkpoint
  [[nodiscard]] SpaceReport space() const;
  [[nodiscard]] Device& device();
  // Why the store went read-only (a failed checkpoint), if it did.
  [[nodiscard]] std::optional<Error> failure() const;

  // Layers.  Callbacks return false to stop; they must not call back into the store.
  Status for_each_layer(std::function<bool(LayerInfo const&)> const& take) const;  // in id order; dying ones left out
  Result<LayerInfo> layer_info(LayerId id) const;
  // The files of a layer.  The same object for the same layer while anybody holds it.
  Result<std::shared_ptr<Layer>> layer(LayerId id);
  // A writable layer, an O(1) clone of `parent` (0: an empty tree).  An open parent is frozen by it.
  Result<LayerId> create_layer(std::string_view name, LayerId parent);
  Status freeze_layer(LayerId id);
  // kBusy if it has children or an image stands on it.  Its name is gone at once; its blocks come back with the next checkpoints.
  Status remove_layer(LayerId id);
  std::optional<LayerId> find_chain(Digest const& chain_id) const;  // frozen layer with this chain id

  // Images
  Status for_each_image(std::function<bool(ImageDetails const&)> const& take) const;
  Result<ImageDetails> image(ImageId id) const;
  Result<std::string> image_document(ImageId id, BlobKind kind) const;  // raw bytes; kNotFound if it has none
  // The image's layers, base first.
  Result<std::vector<LayerInfo>> image_layers(ImageId id) const;
  // Takes the name away; with the last name goes the image, and with it its layers that nothing else stands on.
  // Without a name ("" ): the whole image with all its names.  Durable.
  Status remove_image(ImageId id, std::string_view name);

  // Names: a layer's name; an image's name (also without ":latest", and without "docker.io/", "docker.io/library/" or
  // "localhost/" in front); "sha256:..." or hex digits, at least 4, that begin exactly one chain id, image id, layer name.
  // kNotFound, or kInvalid "ambiguous: ..." with the candidates.
  Result<Target> resolve(std::string_view name) const;
  Result<LayerId> resolve_layer(std::string_view name) const;  // an image means its top layer
  Result<ImageId> resolve_image(std::string_view name) const;

  // Layer names: 1..255 bytes of [A-Za-z0-9][A-Za-z0-9._-]*.
  static Status check_layer_name(std::string_view name);

  [[nodiscard]] StoreImpl& impl() { return *impl_; }
  explicit Store(std::unique_ptr<StoreImpl> impl);

 private:
  std::unique_ptr<StoreImpl> impl_;
};

}  // namespace lcfs
