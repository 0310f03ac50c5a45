// SPDX-License-Identifier: Apache-2.0
#include "tests/support/kept_image.h"

#include <doctest/doctest.h>
#include <zstd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>

#include "tests/support/vocabulary.h"

namespace lcfs::test {

namespace {

constexpr std::string_view kVersion = "v1", kSound = "v1.sound.store.zst";
constexpr int kWindowLog = 25;  // the prefix and the image, 16 MiB each

struct FreeCompressor {
  void operator()(ZSTD_CCtx* c) const { ZSTD_freeCCtx(c); }
};
struct FreeDecompressor {
  void operator()(ZSTD_DCtx* c) const { ZSTD_freeDCtx(c); }
};

std::string read_file(std::filesystem::path const& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE_MESSAGE(in.good(), path.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string bytes_of(Device& device) {
  AlignedBuffer buffer(device.size());
  REQUIRE(device.read(0, buffer.span()).ok());
  return {reinterpret_cast<char const*>(buffer.data()), buffer.size()};
}

std::string pack(std::string const& bytes, std::string const& prefix) {
  std::unique_ptr<ZSTD_CCtx, FreeCompressor> const context(ZSTD_createCCtx());
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, 19);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_windowLog, kWindowLog);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_enableLongDistanceMatching, 1);
  ZSTD_CCtx_refPrefix(context.get(), prefix.data(), prefix.size());
  std::string packed(ZSTD_compressBound(bytes.size()), '\0');
  auto const n =
      ZSTD_compress2(context.get(), packed.data(), packed.size(), bytes.data(), bytes.size());
  REQUIRE(ZSTD_isError(n) == 0);
  packed.resize(n);
  return packed;
}

std::string unpack(std::string const& packed, std::string const& prefix) {
  auto const size = ZSTD_getFrameContentSize(packed.data(), packed.size());
  REQUIRE(size == std::uint64_t{kMinStoreBlocks} * kBlockSize);
  std::unique_ptr<ZSTD_DCtx, FreeDecompressor> const context(ZSTD_createDCtx());
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kWindowLog);
  ZSTD_DCtx_refPrefix(context.get(), prefix.data(), prefix.size());
  std::string bytes(size, '\0');
  auto const n =
      ZSTD_decompressDCtx(context.get(), bytes.data(), bytes.size(), packed.data(), packed.size());
  REQUIRE_MESSAGE(n == size, ZSTD_getErrorName(n));
  return bytes;
}

}  // namespace

void keep_image(Device& device, std::string_view code, std::string_view what) {
  char const* const folder = std::getenv("LCFS_KEEP_IMAGES");
  if (folder == nullptr) return;
  std::string name(what);
  std::replace(name.begin(), name.end(), ' ', '-');
  name = std::string(kVersion) + "." + std::string(code) + "." + name + ".zst";
  std::filesystem::path const directory(folder);
  std::string const prefix = name == kSound ? "" : unpack(read_file(directory / kSound), "");
  std::string const packed = pack(bytes_of(device), prefix);
  std::ofstream(directory / name, std::ios::binary)
      .write(packed.data(), static_cast<std::streamsize>(packed.size()));
}

std::vector<KeptImage> kept_images(std::string const& folder) {
  std::filesystem::path const directory(folder);
  std::string const sound = unpack(read_file(directory / kSound), "");
  std::vector<KeptImage> images;
  for (auto const& entry : std::filesystem::directory_iterator(directory)) {
    KeptImage image;
    image.name = entry.path().filename().string();
    if (!image.name.ends_with(".zst")) continue;
    auto const first = image.name.find('.'), second = image.name.find('.', first + 1);
    image.version = image.name.substr(0, first);
    image.code = image.name.substr(first + 1, second - first - 1);
    std::string const bytes = image.name == kSound ? sound : unpack(read_file(entry.path()), sound);
    image.device = make_memory_device(bytes.size(), image.name);
    AlignedBuffer buffer(bytes.size());
    std::memcpy(buffer.data(), bytes.data(), bytes.size());
    REQUIRE(image.device->write(0, buffer.span()).ok());
    images.push_back(std::move(image));
  }
  std::sort(images.begin(), images.end(),
            [](KeptImage const& a, KeptImage const& b) { return a.name < b.name; });
  return images;
}

}  // namespace lcfs::test
