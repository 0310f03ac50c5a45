// SPDX-License-Identifier: Apache-2.0
#include "heal/blocks.h"

#include "fsck/healer.h"

namespace lcfs::heal {

namespace {

// Offers the files of a received layer to the healer.
class Offer final : public PlacedFileReader {
 public:
  explicit Offer(fsck::Healer& healer) : healer_(healer) {}
  bool begin_file(std::string_view path) override { return healer_.begin_file(path); }
  Status data(std::span<std::byte const> bytes) override { return healer_.data(bytes); }
  Status hole(std::uint64_t length) override { return healer_.hole(length); }
  Status end_file() override { return healer_.end_file(); }

 private:
  fsck::Healer& healer_;
};

}  // namespace

Result<std::uint64_t> heal_blocks(Store& store, Ingest& received,
                                  std::span<verify::Damage const> damages) {
  LCFS_TRY(store.check_writable());
  fsck::Healer healer(store.device());
  for (auto const& d : damages) {
    if (d.inode != 0 && !d.path.empty())
      healer.want(d.path, d.file_offset, d.device_offset / kBlockSize, d.expected);
  }
  Offer offer(healer);
  LCFS_TRY(received.read_placed(offer));
  LCFS_TRY(healer.finish());
  return healer.healed();
}

}  // namespace lcfs::heal
